"""Long-tailed distillation (LTKD): the rebalanced cross-group and the reweighted within-group term."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..decomposition import as_float, grouped_log_softmax, kl_from_logs, kl_within
from ..groups import ClassGroups
from ._shared import check_length, student_and_teacher


def ltkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    groups: ClassGroups,
    *,
    alpha: float,
    beta: float,
    temperature: float | Tensor,
    batch_mass: ArrayLike | Tensor | None = None,
    rebalanced: bool = True,
    reweighted: bool = True,
) -> Tensor:
    """Long-tailed knowledge distillation (LTKD, Eq. 14), times T² -> scalar.

    T² [alpha KL(rebalanced teacher group mass || student group mass) + beta sum over groups of KL within the group].
    alpha, beta: the weights of the two terms; all other arguments, and what is raised: see `ltkd_terms`.

    >>> groups = ClassGroups(("head", "tail"), torch.tensor([0, 0, 1]))
    >>> student = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]], requires_grad=True)
    >>> teacher = torch.tensor([[3.0, 1.0, 0.0], [1.0, 1.0, 2.0]])
    >>> loss = ltkd(student, teacher, groups, alpha=6.0, beta=6.0, temperature=4.0)
    >>> loss.backward()
    >>> loss.detach(), student.grad[0]
    (tensor(5.9864), tensor([-0.8762,  0.6044,  0.2719]))
    """
    cross, within = ltkd_terms(
        student_logits,
        teacher_logits,
        groups,
        temperature=temperature,
        batch_mass=batch_mass,
        rebalanced=rebalanced,
        reweighted=reweighted,
    )
    return alpha * cross + beta * within


def ltkd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    groups: ClassGroups,
    *,
    temperature: float | Tensor,
    batch_mass: ArrayLike | Tensor | None = None,
    rebalanced: bool = True,
    reweighted: bool = True,
) -> tuple[Tensor, Tensor]:
    """The two terms of LTKD before alpha and beta (Eq. 11 and 13), each times T²: (cross, within), two scalars.

    student_logits; teacher_logits, a constant: (B, C). temperature: a number, or a 0-dim tensor that may require a
    gradient; the factor T² is then part of that gradient. batch_mass (G,), a constant too: see `rebalance`.
    For the ablations: rebalanced=False keeps the teacher's own group mass as the cross-group target (Eq. 6; "biased"
    in Tab. 4) and ignores batch_mass; reweighted=False weighs the KL of each group by the teacher's group mass
    (Eq. 12). With both False the terms sum to plain KD (Eq. 8).
    A group whose classes the teacher masks in a row has no target there: its rebalanced mass and its KL within are 0.
    Raises: ConfigError if the batch is empty, if the shapes differ or do not fit the groups, or if the temperature is
    out of range.
    """
    student_logits, teacher_logits = student_and_teacher(student_logits, teacher_logits)
    student = grouped_log_softmax(student_logits, groups, temperature=temperature)
    teacher = grouped_log_softmax(teacher_logits, groups, temperature=temperature)
    target = log_rebalance(teacher.mass, _log_mass(batch_mass, teacher.mass)) if rebalanced else teacher.mass
    cross, within = kl_from_logs(target, student.mass), kl_within(teacher, student, groups)
    if not reweighted:  # a mass that rounds to 0 removes the term, even an infinite one
        mass = teacher.mass.exp()
        within = (mass * within).masked_fill(mass == 0, 0.0)
    return cross.mean() * temperature**2, within.sum(1).mean() * temperature**2


def rebalance(teacher_mass: Tensor, batch_mass: ArrayLike | Tensor | None = None) -> Tensor:
    """Rebalance the teacher's group probabilities over a batch (LTKD, Eq. 9 to 11): (B, G) -> (B, G).

    Each group is scaled by (average batch mass) / (its batch mass), then every row is normalised to sum to one. The
    batch sums are then nearer to each other, but equal only where the rows are alike.
    batch_mass (G,): the batch's summed mass if it comes from outside (several processes, a running mean).
    A mass of zero stays zero, in a row and in the whole batch.
    Raises: ConfigError if batch_mass is not (G,).

    >>> rebalance(torch.tensor([[0.9, 0.1], [0.7, 0.3]]))
    tensor([[0.6923, 0.3077],
            [0.3684, 0.6316]])
    """
    mass = as_float(teacher_mass)
    log_mass = _log(mass).masked_fill(mass == 0, -torch.inf)
    return log_rebalance(log_mass, _log_mass(batch_mass, log_mass)).exp()


def log_rebalance(log_mass: Tensor, log_batch_mass: Tensor | None = None) -> Tensor:
    """LTKD's Eq. 9 to 11 on logarithms: (..., B, G) log group mass -> (..., B, G) log of the rebalanced mass.

    log_batch_mass (G,): finite log of the batch's summed mass if it comes from outside.
    """
    # The target average of Eq. 9 scales every group alike, so the normalisation of Eq. 11 cancels it.
    if log_batch_mass is not None:
        return (log_mass - log_batch_mass).log_softmax(-1)
    finite = log_mass.clamp_min(torch.finfo(log_mass.dtype).min)  # a batch of -inf alone has no softmax
    return finite.log_softmax(-2).masked_fill(log_mass == -torch.inf, -torch.inf).log_softmax(-1)


def _log_mass(batch_mass: ArrayLike | Tensor | None, log_mass: Tensor) -> Tensor | None:
    """Log of a batch mass (G,) from outside, in the type of the log group mass (B, G)."""
    if batch_mass is None:
        return None
    return _log(check_length("batch_mass", batch_mass, log_mass.shape[1], "group").detach().to(log_mass))


def _log(mass: Tensor) -> Tensor:
    """The logarithm, finite where the mass is zero."""
    return mass.clamp_min(torch.finfo(mass.dtype).tiny).log()
