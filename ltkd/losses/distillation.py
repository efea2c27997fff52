"""Distillation of logits."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..decomposition import at_temperature, check_same_shape, kl_from_logs
from ._shared import check_length, labelled, split_at_target

DIST_EPS = 1e-8  # the authors' value; it damps the correlation of columns with almost no probability


def kd(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float | Tensor) -> Tensor:
    """Knowledge distillation (Hinton et al. 2015; BKD, Eq. 6): T² KL(p_teacher || p_student).

    Both logits (B, C); temperature: above 0, here and below a number or a 0-dim tensor -> scalar.
    Raises: ConfigError if the shapes differ, or if the temperature is not above 0.
    """
    student, teacher = _log_softmax_of_both(student_logits, teacher_logits, temperature)
    return kl_from_logs(teacher, student).mean() * temperature**2


def bkd(
    student_logits: Tensor, teacher_logits: Tensor, class_weights: ArrayLike | Tensor, *, temperature: float | Tensor
) -> Tensor:
    """Balanced knowledge distillation (Zhang et al. 2023, Eq. 8): T² KL(q || p_student), q ∝ weight_c p_teacher,c.

    Both logits (B, C); class_weights (C,), positive: only their ratios matter, since q sums to one -> scalar.
    Raises: ConfigError if a shape is wrong, or if the temperature is not above 0.
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
    Raises: ConfigError if a shape is wrong, if the labels are not int64, or if the temperature is not above 0.
    """
    check_same_shape(student_logits, teacher_logits)
    labelled(student_logits, labels)
    teacher, teacher_others = split_at_target(at_temperature(teacher_logits, temperature), labels)
    student, student_others = split_at_target(at_temperature(student_logits, temperature), labels)
    tckd = kl_from_logs(teacher, student)
    nckd = kl_from_logs(teacher_others.log_softmax(1), student_others.log_softmax(1))
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
    then 0, without a gradient.
    Raises: ConfigError if the shapes differ, or if the temperature is not above 0.
    """
    check_same_shape(student_logits, teacher_logits)
    teacher = at_temperature(teacher_logits, temperature).softmax(1)
    student = at_temperature(student_logits, temperature).softmax(1)
    inter = _correlation_distance(student, teacher)
    intra = _correlation_distance(student.T, teacher.T) if len(student) > 1 else torch.zeros_like(inter)
    return inter * temperature**2, intra * temperature**2


def expert_kd(student_logits: Tensor, expert_logits: Tensor, classes: Tensor, *, temperature: float | Tensor) -> Tensor:
    """One expert's term of LFME (Xiang et al. 2020): KL(p_expert || p_student among the expert's classes).

    student_logits (B, C); expert_logits (B, K) over `classes`, a LongTensor (K,) of class numbers -> scalar. Both
    softmaxes are over these K classes only. As in the authors' code, and unlike every other loss here, without T².
    Raises: ConfigError if a shape is wrong, or if the temperature is not above 0.
    """
    classes = torch.as_tensor(classes, device=student_logits.device)
    columns = student_logits.index_select(-1, classes)
    student, expert = _log_softmax_of_both(columns, expert_logits, temperature)
    return kl_from_logs(expert, student).mean()


def _log_softmax_of_both(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor
) -> tuple[Tensor, Tensor]:
    check_same_shape(student_logits, teacher_logits)
    student, teacher = (at_temperature(logits, temperature) for logits in (student_logits, teacher_logits))
    return student.log_softmax(1), teacher.log_softmax(1)


def _correlation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - Pearson's correlation of the rows of two (N, M) tensors, mean over the rows."""
    student, teacher = (x - x.mean(1, keepdim=True) for x in (student, teacher))
    lengths: Tensor = torch.linalg.vector_norm(student, dim=1) * torch.linalg.vector_norm(teacher, dim=1)
    return (1 - (student * teacher).sum(1) / (lengths + DIST_EPS)).mean()
