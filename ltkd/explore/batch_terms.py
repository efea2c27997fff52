"""Group mass, rebalancing and the terms of the KL divergence on saved logits, batch by batch."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..decomposition import decompose, group_mass, log_group_mass
from ..errors import ConfigError
from ..groups import ClassGroups
from ..losses import log_rebalance

ALL = slice(None)


def batch_mass(logits: ArrayLike, groups: ClassGroups, *, batch_size: int, temperature: float = 1.0) -> np.ndarray:
    """Summed group probabilities of each full batch, in the order of the rows: (N, C) -> (N // batch_size, G).

    Raises ConfigError if no batch is full.
    """
    mass = group_mass(torch.as_tensor(logits), groups, temperature=temperature).double()
    return in_batches(mass, batch_size).sum(1).numpy()


def in_batches(rows: Tensor, batch_size: int) -> Tensor:
    """Full batches of rows, in their order; the last rows are dropped: (N, ...) -> (N // B, B, ...).

    Raises ConfigError if no batch is full.
    """
    if not 1 <= batch_size <= len(rows):
        raise ConfigError(f"batch_size = {batch_size}: must be between 1 and the number of images, {len(rows)}")
    full = len(rows) // batch_size
    return rows[: full * batch_size].reshape(full, batch_size, *rows.shape[1:])


class Rebalancing(NamedTuple):
    """LTKD's Eq. 9 to 11 on each of n batches: (n, G) each.

    images: number of images of the group; teacher: the teacher's summed group mass; factors: the scaling factors of
    Eq. 10, which alone would make all sums equal; rebalanced: the sums after Eq. 11, where each image's probabilities
    sum to one again.
    """

    images: np.ndarray
    teacher: np.ndarray
    factors: np.ndarray
    rebalanced: np.ndarray


def rebalance_batches(
    logits: ArrayLike, labels: ArrayLike, groups: ClassGroups, *, batch_size: int, temperature: float = 1.0
) -> Rebalancing:
    """`losses.rebalance` on each full batch, in the order of the rows. logits (N, C), labels (N,).

    Raises ConfigError if no batch is full.
    """
    log_mass = in_batches(log_group_mass(torch.as_tensor(logits), groups, temperature=temperature), batch_size).double()
    teacher = log_mass.exp().sum(1)
    rebalanced = log_rebalance(log_mass).exp().sum(1)
    of_group = torch.nn.functional.one_hot(groups.index[torch.as_tensor(labels)], groups.n_groups)
    factors = teacher.mean(1, keepdim=True) / teacher
    images = in_batches(of_group, batch_size).sum(1)
    return Rebalancing(*(values.numpy() for values in (images, teacher, factors, rebalanced)))


class Terms(NamedTuple):
    """The parts of KL(teacher || student) for each image (LTKD, Eq. 8), in float64.

    cross (N,), within (N, G): the unweighted terms, in nats; mass (N, G): the teacher's p_G, the weights of Eq. 8;
    cross_gradient (N,), within_gradient (N, G): norm of each unweighted term's gradient in the student's logits;
    error: largest difference between the two sides of Eq. 8 on these images, in nats.
    """

    cross: np.ndarray
    within: np.ndarray
    mass: np.ndarray
    cross_gradient: np.ndarray
    within_gradient: np.ndarray
    error: float


def kl_terms(
    teacher_logits: ArrayLike, student_logits: ArrayLike, groups: ClassGroups, *, temperature: float = 1.0
) -> Terms:
    """Terms of two (N, C) arrays of logits, without the factor T² of a loss."""
    teacher = torch.as_tensor(teacher_logits).double()
    student = torch.as_tensor(student_logits).detach().double().clone().requires_grad_()
    kl, cross, within, mass, _ = decompose(student, teacher, groups, temperature=temperature)
    lengths = [
        torch.autograd.grad(term.sum(), student, retain_graph=True)[0].norm(dim=1)
        for term in (cross, *within.unbind(1))
    ]
    error = float((kl - cross - (mass * within).sum(1)).detach().abs().max())
    return Terms(
        cross=cross.detach().numpy(),
        within=within.detach().numpy(),
        mass=mass.numpy(),
        cross_gradient=lengths[0].numpy(),
        within_gradient=torch.stack(lengths[1:], 1).numpy(),
        error=error,
    )


class WeightedTerms(NamedTuple):
    """Means over some images.

    weights (G,): of the within-group terms; values (1 + G,): the cross-group term and the weighted within-group terms,
    in nats; pull (1 + G,): mean norm of the gradient of each of these.
    """

    weights: np.ndarray
    values: np.ndarray
    pull: np.ndarray


def weigh(terms: Terms, beta: float | None = None, images: slice | Sequence[int] | np.ndarray = ALL) -> WeightedTerms:
    """Weight the within-group terms by the teacher's mass (Eq. 8) or by `beta` (Eq. 13), and average over images.

    images: their indices or a boolean mask (N,).
    """
    weights = terms.mass if beta is None else np.full_like(terms.mass, beta)
    values = np.column_stack([terms.cross, weights * terms.within])
    pull = np.column_stack([terms.cross_gradient, weights * terms.within_gradient])
    return WeightedTerms(*(x[images].mean(0) for x in (weights, values, pull)))


def gradient_by_group(
    loss: Callable[[Tensor], Tensor], student_logits: ArrayLike, labels: ArrayLike, groups: ClassGroups
) -> dict[str, float]:
    """Mean norm of the loss's gradient in an image's logits, by the group of its label; NaN for a group without images.

    loss: student logits (B, C) -> scalar, a mean over the batch; labels (B,).
    """
    logits = torch.as_tensor(student_logits).detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits), logits)
    norms = gradient.norm(dim=1).numpy() * len(logits)
    group = groups.index.numpy()[np.asarray(labels)]
    members = {name: group == g for g, name in enumerate(groups.names)}
    return {name: float(norms[of].mean()) if of.any() else float("nan") for name, of in members.items()}
