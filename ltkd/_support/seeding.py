"""Seeds that depend on all that they should and on nothing else, and a hold on the global generator."""

import hashlib
from contextlib import contextmanager

import torch


def derived_seed(*parts):
    """A seed that depends on all parts and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7])


@contextmanager
def own_randomness(device, seed):
    """Layers that draw for themselves, such as dropout, know only the global generator: lend them a seeded one, and
    give the caller's back untouched."""
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.random.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
