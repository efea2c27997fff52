"""Distillation of feature maps: a mean over images, channels and positions. The teacher's map is a constant."""

import torch.nn.functional as F
from torch import Tensor

from ..decomposition import as_float
from ..errors import ConfigError
from ._shared import check_not_empty


def hint(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """FitNet's hint (Romero et al. 2015): mean squared difference of two (B, c, h, w) maps -> scalar.

    The caller's regressor brings the student's map to the teacher's shape.
    Raises: ConfigError if the shapes differ or the batch is empty.
    """
    student, teacher = _maps(student_map, teacher_map, 4)
    return (student - teacher).square().mean()


def hierarchical_context(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """ReviewKD's hierarchical context loss (Chen et al. 2021) for one level: two (B, c, h, w) maps -> scalar.

    The mean squared difference of the maps, and of the maps average-pooled to 4, 2 and 1 (those below h), weighted
    1, 1/2, 1/4, 1/8 and divided by the sum of the weights.
    Raises: ConfigError if the shapes differ or the batch is empty.
    """
    student, teacher = _maps(student_map, teacher_map, 4)
    difference = student - teacher  # pooling is linear: the difference can be pooled
    sizes = [size for size in (4, 2, 1) if size < difference.shape[2]]
    scales = [difference, *(F.adaptive_avg_pool2d(difference, size) for size in sizes)]
    weights = [0.5**k for k in range(len(scales))]
    terms = [w * scale.square().mean() for w, scale in zip(weights, scales, strict=True)]
    return sum(terms[1:], terms[0]) / sum(weights)


def class_attention(student_maps: Tensor, teacher_maps: Tensor, *, size: int, normalize: bool) -> Tensor:
    """CAT-KD (Guo et al. 2023): mean squared difference of pooled class activation maps -> scalar.

    student_maps (B, C, h, w) and teacher_maps (B, C, h', w') are average-pooled to (size, size); a smaller map is
    repeated. normalize: scale the pooled map of each class to length one.
    Raises: ConfigError if B or C differ or the batch is empty.
    """
    pooled = [F.adaptive_avg_pool2d(maps, size).flatten(2) for maps in _maps(student_maps, teacher_maps, 2)]
    student, teacher = [F.normalize(maps, dim=2) for maps in pooled] if normalize else pooled
    return (student - teacher).square().mean()


def _maps(student_map: Tensor, teacher_map: Tensor, n_equal: int) -> tuple[Tensor, Tensor]:
    """Both maps in float32 or better, the teacher's as a constant, after a check that they are (B, c, h, w) with B at
    least 1 and the first `n_equal` sizes equal."""
    if student_map.ndim != 4 or teacher_map.ndim != 4 or student_map.shape[:n_equal] != teacher_map.shape[:n_equal]:
        raise ConfigError(
            f"student and teacher maps must be (batch, channels, height, width) and agree in the first {n_equal} of "
            f"these: the student's are {tuple(student_map.shape)}, the teacher's {tuple(teacher_map.shape)}"
        )
    check_not_empty(student_map)
    return as_float(student_map), as_float(teacher_map.detach())
