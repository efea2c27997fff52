"""Group mass, rebalancing and the terms of the KL divergence on saved logits, batch by batch."""

from typing import NamedTuple

import numpy as np
import torch

from ..decomposition import decompose, group_mass, log_group_mass
from ..errors import ConfigError
from ..losses import log_rebalance


def batch_mass(logits, groups, *, batch_size, temperature=1.0):
    """Summed group probabilities of each full batch, in the order of the rows: (N, C) -> (N // batch_size, G)."""
    mass = group_mass(torch.as_tensor(logits), groups, temperature=temperature).double()
    return in_batches(mass, batch_size).sum(1).numpy()


def in_batches(rows, batch_size):
    """Rows in full batches, in their order, without what is left over: (N, ...) -> (N // B, B, ...)."""
    if not 1 <= batch_size <= len(rows):
        raise ConfigError(f"batch_size = {batch_size}: must lie between 1 and the number of images, {len(rows)}")
    full = len(rows) // batch_size
    return rows[: full * batch_size].reshape(full, batch_size, *rows.shape[1:])


class Rebalancing(NamedTuple):
    """What LTKD's Eq. 9 to 11 do to each of n batches, all (n, G).

    images: images of the group, by label; teacher: the teacher's summed group mass; factors: Eq. 10, with which every
    group's sum would be the same; rebalanced: the sums after Eq. 11, whose rows sum to one again.
    """

    images: np.ndarray
    teacher: np.ndarray
    factors: np.ndarray
    rebalanced: np.ndarray


def rebalance_batches(logits, labels, groups, *, batch_size, temperature=1.0):
    """`losses.rebalance` of each full batch, in the order of the rows: (N, C), (N,) -> Rebalancing."""
    log_mass = in_batches(log_group_mass(torch.as_tensor(logits), groups, temperature=temperature), batch_size).double()
    teacher = log_mass.exp().sum(1)
    rebalanced = log_rebalance(log_mass).exp().sum(1)
    of_group = torch.nn.functional.one_hot(groups.index[torch.as_tensor(labels)], groups.n_groups)
    factors = teacher.mean(1, keepdim=True) / teacher
    images = in_batches(of_group, batch_size).sum(1)
    return Rebalancing(*(values.numpy() for values in (images, teacher, factors, rebalanced)))


class Terms(NamedTuple):
    """The parts of KL(teacher || student) of each image (LTKD, Eq. 8), in float64.

    cross (N,), within (N, G): unweighted, in nats; mass (N, G): the teacher's p_G, which weighs them in Eq. 8;
    cross_gradient (N,), within_gradient (N, G): length of each unweighted term's gradient on the student's logits;
    error: largest difference between the two sides of Eq. 8 on these images, in nats.
    """

    cross: np.ndarray
    within: np.ndarray
    mass: np.ndarray
    cross_gradient: np.ndarray
    within_gradient: np.ndarray
    error: float


def kl_terms(teacher_logits, student_logits, groups, *, temperature=1.0):
    """Terms of two (N, C) arrays of logits; without the T² that a loss has."""
    teacher = torch.as_tensor(teacher_logits).double()
    student = torch.as_tensor(student_logits).detach().double().clone().requires_grad_()
    kl, cross, within, mass, _ = decompose(student, teacher, groups, temperature=temperature)
    lengths = [
        torch.autograd.grad(term.sum(), student, retain_graph=True)[0].norm(dim=1)
        for term in (cross, *within.unbind(1))
    ]
    error = float((kl - cross - (mass * within).sum(1)).detach().abs().max())
    arrays = (cross, within, mass, lengths[0], torch.stack(lengths[1:], 1))
    return Terms(*(x.detach().numpy() for x in arrays), error)


class WeightedTerms(NamedTuple):
    """Means over some images. weights (G,): of the within-group terms; values (1 + G,): the cross-group term, then the
    weighted within-group terms, in nats; pull (1 + G,): mean length of the gradient of each of these."""

    weights: np.ndarray
    values: np.ndarray
    pull: np.ndarray


def weigh(terms, beta=None, images=slice(None)):
    """The terms with the within-group ones weighted by the teacher's mass (Eq. 8) or by `beta` (Eq. 13), averaged over
    `images` (indices, or True for each that counts)."""
    weights = terms.mass if beta is None else np.full_like(terms.mass, beta)
    values = np.column_stack([terms.cross, weights * terms.within])
    pull = np.column_stack([terms.cross_gradient, weights * terms.within_gradient])
    return WeightedTerms(*(x[images].mean(0) for x in (weights, values, pull)))


def gradient_by_group(loss, student_logits, labels, groups):
    """Mean norm of the loss's gradient with respect to a sample's logits, by the group of the sample's label.

    loss: (B, C) student logits -> scalar, a mean over the batch; labels (B,) -> {group: norm}, NaN without an image.
    """
    logits = torch.as_tensor(student_logits).detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits), logits)
    norms = gradient.norm(dim=1).numpy() * len(logits)
    group = groups.index.numpy()[np.asarray(labels)]
    members = {name: group == g for g, name in enumerate(groups.names)}
    return {name: float(norms[of].mean()) if of.any() else float("nan") for name, of in members.items()}
