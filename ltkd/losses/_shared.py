"""Checks and steps that several losses share."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..decomposition import GroupedLogs, as_float, check_same_shape, grouped_logs, passes
from ..errors import ConfigError, shown


def student_and_teacher(student_logits: Tensor, teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Both, the teacher's as a constant. Raises: ConfigError unless both are (B, C), the same B and C, B at least 1."""
    check_same_shape(student_logits, teacher_logits)
    check_not_empty(student_logits)
    return student_logits, teacher_logits.detach()


def labelled(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits in float32 or better.

    Raises: ConfigError unless they are (B, C) and the labels (B,) of type int64, at least one; and, on the CPU, if a
    label is not from 0 to C - 1.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype != torch.int64:
        raise ConfigError(
            f"logits must be (batch, classes) and labels (batch,) of type int64: the logits are "
            f"{tuple(logits.shape)}, the labels {tuple(labels.shape)} of type {labels.dtype}"
        )
    check_not_empty(logits)
    check_classes("labels", labels, logits.shape[1])
    return as_float(logits)


def target_and_rest(scaled: Tensor, labels: Tensor) -> GroupedLogs:
    """Logarithms with two groups in each row: 0, all other classes; 1, the target. scaled (B, C), labels (B,)."""
    column = torch.arange(scaled.shape[1], device=scaled.device)
    return grouped_logs(scaled, (column == labels[:, None]).long(), 2)


def check_not_empty(batch: Tensor) -> None:
    """Raise ConfigError for a batch without images, which has no mean."""
    if len(batch) == 0:
        raise ConfigError(f"the batch is empty, {tuple(batch.shape)}: a loss needs at least one image; skip this batch")


def check_classes(name: str, numbers: Tensor, n_classes: int) -> None:
    """Raise ConfigError on the CPU unless the numbers are from 0 to n_classes - 1."""
    if not passes(numbers, lambda each: ((each >= 0) & (each < n_classes)).all()):
        found = sorted(set(numbers.tolist()) - set(range(n_classes)))
        raise ConfigError(
            f"{name} hold {found[0]}: must be from 0 to {n_classes - 1}, the classes of the logits; drop other images"
        )


def check_length(name: str, values: ArrayLike | Tensor, n: int, unit: str) -> Tensor:
    """The values as a tensor. Raises: ConfigError unless they are (n,) numbers."""
    numbers = values if isinstance(values, Tensor) else _tensor(values)
    if numbers is None:
        raise ConfigError(f"{name} = {shown(values)}: must be {n} numbers, one value per {unit}")
    if numbers.shape != (n,):
        raise ConfigError(f"{name} has shape {tuple(numbers.shape)}: must be ({n},), one value per {unit}")
    return numbers


def _tensor(values: ArrayLike) -> Tensor | None:
    """The values as a tensor; None if they are no numbers."""
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return None
