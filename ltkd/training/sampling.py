"""Which images an epoch shows, and in what order. A new sampler is one function and its row in SAMPLERS."""

import torch

IMAGES_IN_A_ROW = 4  # of one class, in class-aware sampling (Kang et al. 2020)


def instance(labels, generator):
    """Every image once."""
    return torch.randperm(len(labels), generator=generator)


def reversed_(labels, generator):
    """A class at random, the rarer the more often, by 1 / its images, then one of its images at random, with
    replacement (BBN, Zhou et al. 2020)."""
    counts = torch.bincount(labels).double().clamp_min(1)
    weights = (1 / counts / counts)[labels]  # of an image: its class's share, split over the class
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def class_aware(labels, generator):
    """Classes in shuffled cycles, four images of each in a row out of the class's own shuffled cycles (Kang et al.
    2020; OLTR, LFME). A class with fewer images shows some of them twice. Cycles begin anew with every epoch."""
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


def hold_out(labels, share, generators):
    """Split images at random into those to train on and those to steer by: two ascending index tensors.

    share: of each class's images, at least one, but never the only one. generators: one a class, so that a class's
    images are split alike whatever other classes are there.
    """
    is_held = torch.zeros(len(labels), dtype=torch.bool)
    for own, generator in zip(_positions(labels, len(generators)), generators, strict=True):
        n = min(len(own) - 1, max(1, round(share * len(own))))
        is_held[own[torch.randperm(len(own), generator=generator)[: max(n, 0)]]] = True
    return (~is_held).nonzero().squeeze(1), is_held.nonzero().squeeze(1)


def _positions(values, n=0):
    """Where each number from 0 on stands: a list of ascending index tensors."""
    return values.argsort(stable=True).split(torch.bincount(values, minlength=n).tolist())


SAMPLERS = {"instance": instance, "reversed": reversed_, "class-aware": class_aware}
