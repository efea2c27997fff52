"""Deterministic seeds, and isolation of torch's global random state."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(*parts: object) -> int:
    """A seed of 56 bits that depends on all parts, by their repr, and on nothing else."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7])


@contextmanager
def own_randomness(device: torch.device | str, seed: int) -> Iterator[None]:
    """Seed torch's global generators of the CPU and of `device`, and restore the caller's state at the end.

    Layers such as dropout draw from the global generators only.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.random.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
