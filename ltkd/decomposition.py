"""The exact split of the KL divergence into a cross-group and within-group terms (LTKD, Eq. 2 to 8).

Everything stays in log space: a probability that underflows to zero keeps a finite logarithm, so logits of any
size that their type can hold give finite values and gradients.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .errors import ConfigError


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


def at_temperature(logits, temperature):
    """Logits divided by the temperature, in float32 or better."""
    if not temperature > 0:
        raise ConfigError(f"temperature = {temperature}: must be above 0")
    return (logits if logits.dtype == torch.float64 else logits.float()) / temperature


def group_logsumexp(logits, groups):
    """Log of the sum of exp(logits) over the classes of each group: (B, C) -> (B, G)."""
    if logits.shape[-1] != groups.n_classes:
        raise ConfigError(f"logits have {logits.shape[-1]} classes, the groups {groups.n_classes}")
    index = groups.index.to(logits.device).expand_as(logits)
    shape = (len(logits), groups.n_groups)
    peak = logits.new_full(shape, -torch.inf).scatter_reduce(1, index, logits.detach(), "amax")
    total = logits.new_zeros(shape).scatter_add(1, index, (logits - peak.gather(1, index)).exp())
    return peak + total.log()


def log_group_mass(logits, groups, *, temperature=1.0):
    """Log of the probability of each group (LTKD, Eq. 3): (B, C) -> (B, G)."""
    scaled = at_temperature(logits, temperature)
    return group_logsumexp(scaled, groups) - scaled.logsumexp(1, keepdim=True)


def group_mass(logits, groups, *, temperature=1.0):
    """The probability of each group (LTKD, Eq. 3): (B, C) -> (B, G); rows sum to one."""
    return log_group_mass(logits, groups, temperature=temperature).exp()


class LogSplit(NamedTuple):
    """One network's softmax split as p_i = p_group * p~_i (LTKD, Eq. 3 and 4), in logarithms.

    group (B, G): log of the group probabilities. inside (B, C): log of each class's probability inside its group.
    """

    group: Tensor
    inside: Tensor


def log_split(logits, groups, *, temperature=1.0):
    """Split a softmax into group and within-group log-probabilities: (B, C) -> LogSplit."""
    scaled = at_temperature(logits, temperature)
    by_group = group_logsumexp(scaled, groups)
    inside = scaled - by_group.gather(1, groups.index.to(logits.device).expand_as(scaled))
    return LogSplit(by_group - scaled.logsumexp(1, keepdim=True), inside)


def kl_from_logs(log_p, log_q):
    """KL(p || q) over the last dimension, from log-probabilities."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def within_group_kl(teacher_inside, student_inside, groups):
    """KL inside each group (LTKD, Eq. 7), from within-group log-probabilities: (B, C), (B, C) -> (B, G)."""
    terms = teacher_inside.exp() * (teacher_inside - student_inside)
    index = groups.index.to(terms.device).expand_as(terms)
    return terms.new_zeros(len(terms), groups.n_groups).scatter_add(1, index, terms)


def decompose(teacher_logits, student_logits, groups, *, temperature=1.0):
    """Split KL(teacher || student) exactly (LTKD, Eq. 8): two (B, C) tensors of logits -> Decomposition."""
    check_same_shape(student_logits, teacher_logits)
    teacher = log_split(teacher_logits, groups, temperature=temperature)
    student = log_split(student_logits, groups, temperature=temperature)
    return Decomposition(
        kl=kl_from_logs(
            at_temperature(teacher_logits, temperature).log_softmax(1),
            at_temperature(student_logits, temperature).log_softmax(1),
        ),
        cross=kl_from_logs(teacher.group, student.group),
        within=within_group_kl(teacher.inside, student.inside, groups),
        teacher_mass=teacher.group.exp(),
        student_mass=student.group.exp(),
    )


def check_same_shape(student_logits, teacher_logits):
    """Raise unless both are (B, C) with the same B and C."""
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ConfigError(
            f"student and teacher logits must both be (batch, classes): the student's are "
            f"{tuple(student_logits.shape)}, the teacher's {tuple(teacher_logits.shape)}"
        )
