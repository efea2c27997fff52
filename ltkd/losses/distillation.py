"""Distillation of logits. The teacher's are constants, and -inf in them masks a class: see this package's docstring."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..decomposition import at_temperature, kl_from_logs
from ._shared import check_classes, check_length, labelled, student_and_teacher, target_and_rest

DIST_EPS = 1e-8  # the authors' value; it damps the correlation of columns with almost no probability


def kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Knowledge distillation (Hinton et al. 2015; BKD, Eq. 6): T² KL(p_teacher || p_student).

    Both logits (B, C); temperature: here and below a number or a 0-dim tensor, from 0.0001 to 10000 -> scalar.
    Raises: ConfigError if the batch is empty, the shapes differ or the temperature is out of range.
    """
    student, teacher = _log_softmax_of_both(student_logits, teacher_logits, temperature)
    return kl_from_logs(teacher, student).mean() * temperature**2


def bkd(
    student_logits: Tensor, teacher_logits: Tensor, class_weights: ArrayLike | Tensor, *, temperature: float | Tensor
) -> Tensor:
    """Balanced knowledge distillation (Zhang et al. 2023, Eq. 8): T² KL(q || p_student), q ∝ weight_c p_teacher,c.

    Both logits (B, C); class_weights (C,), positive: only their ratios matter, since q sums to one -> scalar.
    Raises: ConfigError if the batch is empty, a shape is wrong or the temperature is out of range.
    """
    student, teacher = _log_softmax_of_both(student_logits, teacher_logits, temperature)
    weights = check_length("class_weights", class_weights, student.shape[1], "class").to(teacher)
    target = (teacher + weights.log()).log_softmax(1)
    return kl_from_logs(target, student).mean() * temperature**2


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float,
    beta: float,
    temperature: float | Tensor,
) -> Tensor:
    """Decoupled knowledge distillation (Zhao et al. 2022): T² [alpha TCKD + beta NCKD].

    Both logits (B, C), labels (B,) -> scalar. Plain KD is alpha = 1 and beta = 1 - p_teacher,y of each image.
    Raises: as `dkd_terms`.
    """
    tckd, nckd = dkd_terms(student_logits, teacher_logits, labels, temperature=temperature)
    return alpha * tckd + beta * nckd


def dkd_terms(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    """The two terms of DKD before alpha and beta, each times T²: (tckd, nckd), two scalars.

    tckd: KL between the (target, all other classes) probabilities; nckd: KL of the softmax over the other classes.
    A teacher that masks the target has the target's probability 0; one that masks all other classes has no nckd.
    Raises: ConfigError if the batch is empty, a shape is wrong, the labels are not int64 or (on the CPU) not below C,
    or the temperature is out of range.
    """
    both = student_and_teacher(student_logits, teacher_logits)
    labelled(student_logits, labels)
    student, teacher = (target_and_rest(at_temperature(logits, temperature), labels) for logits in both)
    tckd = kl_from_logs(teacher.mass, student.mass)
    nckd = kl_from_logs(teacher.inside, student.inside)  # alone in its group, the target adds 0
    return tckd.mean() * temperature**2, nckd.mean() * temperature**2


def dist(
    student_logits: Tensor, teacher_logits: Tensor, *, beta: float, gamma: float, temperature: float | Tensor
) -> Tensor:
    """DIST, distillation from a stronger teacher (Huang et al. 2022): T² [beta inter + gamma intra].

    Both logits (B, C) -> scalar. Raises: as `dist_terms`.
    """
    inter, intra = dist_terms(student_logits, teacher_logits, temperature=temperature)
    return beta * inter + gamma * intra


def dist_terms(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """The two terms of DIST before beta and gamma, each times T²: (inter, intra), two scalars.

    inter: 1 - Pearson's correlation of the two softmax rows of an image, mean over the images; intra: the same of the
    two columns of a class over the batch, mean over the classes. A column of one image has no correlation: intra is
    then 0, without a gradient. What does not vary, as the column of a class that the teacher masks, has correlation 0.
    Raises: ConfigError if the batch is empty, the shapes differ or the temperature is out of range.
    """
    both = student_and_teacher(student_logits, teacher_logits)
    student, teacher = (at_temperature(logits, temperature).softmax(1) for logits in both)
    inter = _correlation_distance(student, teacher)
    intra = _correlation_distance(student.T, teacher.T) if len(student) > 1 else torch.zeros_like(inter)
    return inter * temperature**2, intra * temperature**2


def expert_kd(student_logits: Tensor, expert_logits: Tensor, classes: Tensor, *, temperature: float | Tensor) -> Tensor:
    """One expert's term of LFME (Xiang et al. 2020): KL(p_expert || p_student among the expert's classes).

    student_logits (B, C); expert_logits (B, K) over `classes`, a LongTensor (K,) of class numbers -> scalar. Both
    softmaxes are over these K classes only. As in the authors' code, and unlike every other loss here, without T².
    Raises: ConfigError if the batch is empty, a shape is wrong, a class is not below C (on the CPU), or the temperature
    is out of range.
    """
    classes = torch.as_tensor(classes, device=student_logits.device)
    check_classes("classes", classes, student_logits.shape[-1])
    columns = student_logits.index_select(-1, classes)
    student, expert = _log_softmax_of_both(columns, expert_logits, temperature)
    return kl_from_logs(expert, student).mean()


def _log_softmax_of_both(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    both = student_and_teacher(student_logits, teacher_logits)
    student, teacher = (at_temperature(logits, temperature).log_softmax(1) for logits in both)
    return student, teacher


def _correlation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - Pearson's correlation of the rows of two (N, M) tensors, mean over the rows."""
    student, teacher = (x - x.mean(1, keepdim=True) for x in (student, teacher))
    lengths: Tensor = torch.linalg.vector_norm(student, dim=1) * torch.linalg.vector_norm(teacher, dim=1)
    return (1 - (student * teacher).sum(1) / (lengths + DIST_EPS)).mean()
