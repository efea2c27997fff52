"""The images of an epoch and their order. A new sampler is one function and its row in SAMPLERS.

A sampler: labels (N,), torch.Generator -> indices of the images of one epoch, LongTensor (N,).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

IMAGES_IN_A_ROW = 4  # of one class, in class-aware sampling (Kang et al. 2020)


def instance(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Every image once, in random order."""
    return torch.randperm(len(labels), generator=generator)


def reversed_(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A class with probability proportional to 1 / its images, then a random image of it, with replacement (BBN, Zhou
    et al. 2020)."""
    counts = torch.bincount(labels).double().clamp_min(1)
    weights = (1 / counts / counts)[labels]  # the probability of the class, divided among its images
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def class_aware(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Classes in shuffled cycles, four images of a class in a row (Kang et al. 2020; OLTR, LFME).

    The images of a class come in shuffled cycles too, so that a small class shows some of them twice. Every epoch
    starts new cycles.
    """
    present, of_image = labels.unique(return_inverse=True)
    visits = -(-len(labels) // IMAGES_IN_A_ROW)
    cycles = -(-visits // len(present))
    visited = torch.cat([torch.randperm(len(present), generator=generator) for _ in range(cycles)])[:visits]
    order = torch.empty(visits, IMAGES_IN_A_ROW, dtype=torch.long)
    for own, at in zip(_positions(of_image), _positions(visited, len(present)), strict=True):
        needed = len(at) * IMAGES_IN_A_ROW
        rounds = [own[torch.randperm(len(own), generator=generator)] for _ in range(-(-needed // len(own)))]
        order[at] = torch.cat([own[:0], *rounds])[:needed].view(-1, IMAGES_IN_A_ROW)
    return order.flatten()[: len(labels)]


def hold_out(labels: Tensor, share: float, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
    """Split images at random into those to train on and those to hold out: two ascending index tensors.

    labels: (N,). share: the part of each class that is held out: at least one image, but never the only one.
    generators: one for each class, so that the split of a class does not depend on the other classes.
    """
    is_held = torch.zeros(len(labels), dtype=torch.bool)
    for own, generator in zip(_positions(labels, len(generators)), generators, strict=True):
        n = min(len(own) - 1, max(1, round(share * len(own))))
        is_held[own[torch.randperm(len(own), generator=generator)[: max(n, 0)]]] = True
    return (~is_held).nonzero().squeeze(1), is_held.nonzero().squeeze(1)


def _positions(values: Tensor, n: int = 0) -> Sequence[Tensor]:
    """The positions of each number from 0 on, of at least n numbers: ascending index tensors."""
    return values.argsort(stable=True).split(torch.bincount(values, minlength=n).tolist())


SAMPLERS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "instance": instance,
    "reversed": reversed_,
    "class-aware": class_aware,
}
