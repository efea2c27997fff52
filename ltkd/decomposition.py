"""The exact split of the KL divergence into a cross-group and within-group terms (LTKD, Eq. 2 to 8).

All in log space, with the largest logit of each group as its own reference: a group whose probability underflows to
zero keeps a finite log-probability, and so do its classes inside it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .errors import ConfigError, shown
from .groups import ClassGroups


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
    student_logits, teacher_logits: (B, C). temperature: above 0; as a 0-dim tensor it may require a gradient, and its
    value is then not checked, since a look at it would stall a GPU.
    Raises: ConfigError if the shapes differ or do not fit the groups, or if the temperature is not above 0.

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

    Raises: ConfigError if the logits do not fit the groups, or if the temperature is not above 0.
    """
    scaled = at_temperature(logits, temperature)
    group = _group_of_each(scaled, groups)
    lowest = scaled.new_full((len(scaled), groups.n_groups), -torch.inf)
    # Subtracting the peak avoids overflow and does not change the result, so the peak needs no gradient.
    peak = lowest.scatter_reduce(1, group, scaled.detach(), "amax")
    below = scaled - peak.gather(1, group)
    log_sum = _sum_by_group(below.exp(), groups).log()
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
    return _sum_by_group(teacher.inside.exp() * (teacher.inside - student.inside), groups)


def kl_from_logs(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over the last dimension, from log-probabilities: (..., C), (..., C) -> (...)."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def as_float(x: Tensor) -> Tensor:
    """`x` in float32 or better."""
    return x if x.dtype == torch.float64 else x.float()


def at_temperature(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Logits divided by the temperature, in float32 or better. Raises: ConfigError if the number is not above 0."""
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ConfigError(f"temperature = {temperature}: must be above 0")
    return as_float(logits) / temperature


def check_same_shape(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise ConfigError unless both are (B, C) with the same B and C."""
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ConfigError(
            f"student and teacher logits must both be (batch, classes): the student's are "
            f"{tuple(student_logits.shape)}, the teacher's {tuple(teacher_logits.shape)}"
        )


def _sum_by_group(values: Tensor, groups: ClassGroups) -> Tensor:
    """Sums over the classes of each group: (B, C) -> (B, G)."""
    zeros = values.new_zeros(len(values), groups.n_groups)
    return zeros.scatter_add(1, _group_of_each(values, groups), values)


def _group_of_each(values: Tensor, groups: ClassGroups) -> Tensor:
    """The group of each of the values (B, C), as scatter and gather take it: (B, C)."""
    if not isinstance(groups, ClassGroups):
        raise ConfigError(f"groups = {shown(groups)}: must be ClassGroups, such as ClassGroups.by_rank(class_counts)")
    if values.shape[-1] != groups.n_classes:
        raise ConfigError(f"logits have {values.shape[-1]} classes, the groups {groups.n_classes}")
    return groups.index.to(values.device).expand_as(values)
