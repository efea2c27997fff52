"""Seeds that depend on all that they should and on nothing else, and a hold on the global generator."""

import hashlib
from contextlib import contextmanager

import torch

PLAIN = (bool, int, float, str, tuple)


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


def network_fingerprint(network):
    """Eight hexadecimal digits of a network's weights, and of the plain attributes of its layers."""
    layers = [
        (name, type(layer).__qualname__, [(k, v) for k, v in sorted(vars(layer).items()) if isinstance(v, PLAIN)])
        for name, layer in network.named_modules()
    ]
    shape = repr([(name, kind, [(k, v) for k, v in plain if k != "training"]) for name, kind, plain in layers])
    return fingerprint(network.state_dict().values(), shape)


def fingerprint(tensors, text=""):
    """Eight hexadecimal digits of the values of tensors, and of a text."""
    digest = hashlib.sha256(text.encode())
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:8]
