"""The exact split of the KL divergence into a cross-group and within-group terms (LTKD, Eq. 2 to 8).

All in log space, with the largest logit of each group as its own reference: a group whose probability underflows to
zero keeps a finite log-probability, and so do its classes inside it.

A logit at or below MASKED, -inf above all, masks its class: all functions give the limit of a probability that falls
to zero, with its gradient. A limit of 0/0 is 0: a group of masked classes has no mass and no divergence inside. Only a
student that masks what its teacher does not is infinitely far from it: the divergence is inf. A row with every class
masked has no softmax: it gives nan.
"""

from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import ConfigError, shown
from .groups import ClassGroups

MASKED = torch.finfo(torch.float16).min  # not -inf alone: code masks with a type's lowest number too
TEMPERATURES = (1e-4, 1e4)  # lowest and highest: beyond them the losses are rounding errors, or too large for float32


class Decomposition(NamedTuple):
    """KL(teacher || student) of each sample and its parts; `kl == cross + (teacher_mass * within).sum(1)`.

    kl (B,): the divergence, Eq. 2.             cross (B,): the cross-group term, Eq. 6.
    within (B, G): KL inside each group, Eq. 7. teacher_mass, student_mass (B, G): group probabilities, Eq. 3.
    """

    kl: Tensor
    cross: Tensor
    within: Tensor
    teacher_mass: Tensor
    student_mass: Tensor


class Parts(NamedTuple):
    """A Decomposition without the divergence itself, which costs less."""

    cross: Tensor
    within: Tensor
    teacher_mass: Tensor
    student_mass: Tensor


def decompose(
    student_logits: Tensor, teacher_logits: Tensor, groups: ClassGroups, *, temperature: float | Tensor = 1.0
) -> Decomposition:
    """Split KL(teacher || student) exactly (LTKD, Eq. 8). The student comes first, as in every loss of this package.

    The order matters and a swap is not noticed: with the two exchanged the result is KL(student || teacher).
    student_logits, teacher_logits: (B, C). temperature: a number or a 0-dim tensor, from 0.0001 to 10000. As a function
    of mathematics, and unlike the losses, this has a gradient in all three. Masked classes: see this file's beginning.
    Raises: ConfigError if the shapes differ or do not fit the groups, or for another temperature.

    >>> groups = ClassGroups(("head", "tail"), torch.tensor([0, 0, 1]))
    >>> student, teacher = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[3.0, 1.0, 0.0]])
    >>> parts = decompose(student, teacher, groups)
    >>> parts.kl, parts.cross + (parts.teacher_mass * parts.within).sum(1)
    (tensor([0.9555]), tensor([0.9555]))
    """
    parts = decompose_parts(student_logits, teacher_logits, groups, temperature=temperature)
    student, teacher = (
        at_temperature(logits, temperature).log_softmax(1) for logits in (student_logits, teacher_logits)
    )
    return Decomposition(kl_from_logs(teacher, student), *parts)


def decompose_parts(
    student_logits: Tensor, teacher_logits: Tensor, groups: ClassGroups, *, temperature: float | Tensor = 1.0
) -> Parts:
    """The parts of `decompose` alone; same arguments and errors, the student first as well."""
    check_same_shape(student_logits, teacher_logits)
    student = grouped_log_softmax(student_logits, groups, temperature=temperature)
    teacher = grouped_log_softmax(teacher_logits, groups, temperature=temperature)
    cross = kl_from_logs(teacher.mass, student.mass)
    return Parts(cross, kl_within(teacher, student, groups), teacher.mass.exp(), student.mass.exp())


class GroupedLogs(NamedTuple):
    """Logarithms of p_i = p_group * p~_i (LTKD, Eq. 3 and 4). mass (B, G): log p_group; inside (B, C): log p~_i."""

    mass: Tensor
    inside: Tensor


def grouped_log_softmax(logits: Tensor, groups: ClassGroups, *, temperature: float | Tensor = 1.0) -> GroupedLogs:
    """One network's softmax, split into group and class inside the group: (B, C) -> GroupedLogs.

    Raises: ConfigError if the logits do not fit the groups, or as `at_temperature`.
    """
    scaled = at_temperature(logits, temperature)
    return grouped_logs(scaled, _group_of_each(scaled, groups), groups.n_groups)


def grouped_logs(scaled: Tensor, group: Tensor, n_groups: int) -> GroupedLogs:
    """`grouped_log_softmax` of logits (B, C) at their temperature; group: LongTensor (B, C), the group of each."""
    lowest = scaled.new_full((len(scaled), n_groups), -torch.inf)
    # Subtracting the peak avoids overflow and does not change the result, so the peak needs no gradient.
    peak = lowest.scatter_reduce(1, group, scaled.detach(), "amax")
    below = scaled - peak.clamp_min(torch.finfo(scaled.dtype).min).gather(1, group)
    total = torch.zeros_like(lowest).scatter_add(1, group, below.exp())
    log_sum = total.clamp_min(0.5).log()  # at least 1, the peak itself; 0 in a group of masked classes
    return GroupedLogs((peak + log_sum).log_softmax(1), below - log_sum.gather(1, group))


def log_group_mass(logits: Tensor, groups: ClassGroups, *, temperature: float | Tensor = 1.0) -> Tensor:
    """Log of the probability of each group (LTKD, Eq. 3): (B, C) -> (B, G). Raises: as `grouped_log_softmax`."""
    return grouped_log_softmax(logits, groups, temperature=temperature).mass


def group_mass(logits: Tensor, groups: ClassGroups, *, temperature: float | Tensor = 1.0) -> Tensor:
    """The probability of each group (LTKD, Eq. 3): (B, C) -> (B, G); rows sum to one.

    Raises: as `grouped_log_softmax`.
    """
    return log_group_mass(logits, groups, temperature=temperature).exp()


def kl_within(teacher: GroupedLogs, student: GroupedLogs, groups: ClassGroups) -> Tensor:
    """KL(teacher || student) inside each group (LTKD, Eq. 7): (B, G)."""
    terms = _kl_terms(teacher.inside, student.inside)
    zeros = terms.new_zeros(len(terms), groups.n_groups)
    return zeros.scatter_add(1, _group_of_each(terms, groups), terms)


def kl_from_logs(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over the last dimension, from log-probabilities: (..., C), (..., C) -> (...)."""
    return _kl_terms(log_p, log_q).sum(-1)


def _kl_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """p log(p / q); 0 where p is 0, whatever q is: there it is 0 times inf, or inf - inf."""
    p = log_p.exp()
    return p * (log_p - log_q).masked_fill(p == 0, 0.0)


def as_float(x: Tensor) -> Tensor:
    """`x` in float32 or better."""
    return x if x.dtype == torch.float64 else x.float()


def at_temperature(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Logits divided by the temperature, in float32 or better; -inf for masked classes.

    Raises: ConfigError unless the temperature is a number or a 0-dim tensor from 0.0001 to 10000.
    """
    check_temperature(temperature)
    values = as_float(logits)
    if isinstance(temperature, Tensor):  # its gradient through -inf would be nan
        return (F.threshold(values, MASKED, 0.0) / temperature).masked_fill(values <= MASKED, -torch.inf)
    return F.threshold(values, MASKED, -torch.inf) / temperature


def check_temperature(temperature: float | Tensor) -> None:
    """Raise ConfigError unless the temperature is a number or a 0-dim tensor from 0.0001 to 10000."""
    number = temperature.ndim == 0 if isinstance(temperature, Tensor) else isinstance(temperature, Real)
    low, high = TEMPERATURES
    if not number or not passes(temperature, lambda value: low <= value <= high):
        shown = temperature if number else getattr(temperature, "shape", repr(temperature))
        raise ConfigError(f"temperature = {shown}: must be a number, or a 0-dim tensor, from {low:g} to {high:g}")


def passes(values: Any, check: Callable[[Any], Any]) -> bool:
    """The answer of `check`; True for a tensor whose values cannot be looked at."""
    if not isinstance(values, Tensor):
        return bool(check(values))
    if not may_look(values):
        return True
    try:
        return bool(check(values))
    except RuntimeError:  # torch.func.vmap shows no values
        return True


def may_look(values: Tensor) -> bool:
    """False for a tensor where a look at the values would stall a GPU, or break the graph of torch.compile."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def check_same_shape(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise ConfigError unless both are (B, C) with the same B and C."""
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ConfigError(
            f"student and teacher logits must both be (batch, classes): the student's are "
            f"{tuple(student_logits.shape)}, the teacher's {tuple(teacher_logits.shape)}"
        )


def _group_of_each(values: Tensor, groups: ClassGroups) -> Tensor:
    """The group of each of the values (B, C), as scatter and gather take it: (B, C)."""
    if not isinstance(groups, ClassGroups):
        raise ConfigError(f"groups = {shown(groups)}: must be ClassGroups, such as ClassGroups.by_rank(class_counts)")
    if values.shape[-1] != groups.n_classes:
        raise ConfigError(
            f"logits have {values.shape[-1]} classes, the groups {groups.n_classes}: make the groups from the class "
            f"counts of the same classes"
        )
    return groups.index.to(values.device).expand_as(values)
