"""Checks and steps that several losses share."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..decomposition import as_float
from ..errors import ConfigError, shown


def labelled(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits in float32 or better. Raises: ConfigError unless they are (B, C) and the labels (B,) of type int64."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype != torch.int64:
        raise ConfigError(
            f"logits must be (batch, classes) and labels (batch,) of type int64: the logits are "
            f"{tuple(logits.shape)}, the labels {tuple(labels.shape)} of type {labels.dtype}"
        )
    return as_float(logits)


def split_at_target(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the target and of all others together (B, 2), and the others' logits (B, C - 1)."""
    column = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, column + (column >= labels[:, None]))
    pair = torch.cat([logits.gather(1, labels[:, None]), others.logsumexp(1, keepdim=True)], 1)
    return pair.log_softmax(1), others


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
