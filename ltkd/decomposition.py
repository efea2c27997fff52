"""The exact split of the KL divergence into a cross-group and within-group terms (LTKD, Eq. 2 to 8).

Each group has its own largest logit to compare with: a group's probability that underflows to zero keeps a finite
logarithm, and so do those of its classes inside it. Logits of 1e29 and more are beyond that.
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


# A class so far below the largest of its group has no weight beside it, in float64 either; exp is slow further down.
NEGLIGIBLE = -60.0


def as_float(x):
    """`x` in float32 or better."""
    return x if x.dtype == torch.float64 else x.float()


def at_temperature(logits, temperature):
    """Logits divided by the temperature, in float32 or better."""
    _check_temperature(temperature)
    return as_float(logits) / temperature


def log_group_mass(logits, groups, *, temperature=1.0):
    """Log of the probability of each group (LTKD, Eq. 3): (B, C) -> (B, G)."""
    rows = rows_for(logits, groups)
    return _softmax(*_below_peak(logits, rows, temperature), rows).log_mass


def group_mass(logits, groups, *, temperature=1.0):
    """The probability of each group (LTKD, Eq. 3): (B, C) -> (B, G); rows sum to one."""
    return log_group_mass(logits, groups, temperature=temperature).exp()


class GroupedSoftmax(NamedTuple):
    """One network's softmax split as p_i = p_group * p~_i (LTKD, Eq. 3 and 4); p~_i = part_i / whole_group.

    parts (B, R, W): in rows. whole, log_whole (B, G): sums of the parts. log_mass (B, G): log of p_group.
    """

    parts: Tensor
    whole: Tensor
    log_whole: Tensor
    log_mass: Tensor


def split(teacher_logits, student_logits, rows, temperature):
    """Teacher's and student's softmax, and the KL inside each group: (B, C), (B, C) -> two GroupedSoftmax, (B, G)."""
    teacher_below, teacher_peak = _below_peak(teacher_logits, rows, temperature)
    student_below, student_peak = _below_peak(student_logits, rows, temperature)
    difference = teacher_below - student_below
    teacher = _softmax(teacher_below, teacher_peak, rows)
    student = _softmax(student_below, student_peak, rows)
    mean_difference = rows.sum(difference.mul_(teacher.parts).sum(2)) / teacher.whole
    return teacher, student, mean_difference - (teacher.log_whole - student.log_whole)


def _below_peak(logits, rows, temperature):
    """Logits over T less the largest of their group, in rows (B, R, W); the largest (B, G), a constant to autograd."""
    _check_temperature(temperature)
    scaled = torch.add(rows.pads, rows.of(logits), alpha=1 / temperature)
    peak = rows.max(scaled.detach().amax(2))
    return scaled.sub_(rows.spread(peak)), peak


def _softmax(below, peak, rows):
    """GroupedSoftmax from the logits below the largest of their group, which are overwritten."""
    parts = below.clamp_min_(NEGLIGIBLE).exp_()
    whole = rows.sum(parts.sum(2))
    log_whole = whole.log()
    return GroupedSoftmax(parts, whole, log_whole, (peak + log_whole).log_softmax(1))


def rows_for(logits, groups):
    """The rows of the groups on the device of the logits (B, C)."""
    if logits.shape[-1] != groups.n_classes:
        raise ConfigError(f"logits have {logits.shape[-1]} classes, the groups {groups.n_classes}")
    return groups.rows.to(logits.device)


def kl_from_logs(log_p, log_q):
    """KL(p || q) over the last dimension, from log-probabilities."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def decompose(teacher_logits, student_logits, groups, *, temperature=1.0):
    """Split KL(teacher || student) exactly (LTKD, Eq. 8): two (B, C) tensors of logits -> Decomposition."""
    parts = decompose_parts(teacher_logits, student_logits, groups, temperature=temperature)
    kl = kl_from_logs(
        at_temperature(teacher_logits, temperature).log_softmax(1),
        at_temperature(student_logits, temperature).log_softmax(1),
    )
    return Decomposition(kl, *parts)


class Parts(NamedTuple):
    """The parts of a Decomposition, which are cheaper without the divergence itself."""

    cross: Tensor
    within: Tensor
    teacher_mass: Tensor
    student_mass: Tensor


def decompose_parts(teacher_logits, student_logits, groups, *, temperature=1.0):
    """The parts of `decompose` alone: two (B, C) tensors of logits -> Parts."""
    check_same_shape(student_logits, teacher_logits)
    teacher, student, within = split(teacher_logits, student_logits, rows_for(student_logits, groups), temperature)
    cross = kl_from_logs(teacher.log_mass, student.log_mass)
    return Parts(cross, within, teacher.log_mass.exp(), student.log_mass.exp())


def check_same_shape(student_logits, teacher_logits):
    """Raise unless both are (B, C) with the same B and C."""
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ConfigError(
            f"student and teacher logits must both be (batch, classes): the student's are "
            f"{tuple(student_logits.shape)}, the teacher's {tuple(teacher_logits.shape)}"
        )


def _check_temperature(temperature):
    if not temperature > 0:
        raise ConfigError(f"temperature = {temperature}: must be above 0")
