"""Checks and steps that several losses share."""

import torch
from torch import Tensor

from ..decomposition import as_float
from ..errors import ConfigError


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


def check_length(name: str, values: Tensor, n: int, unit: str) -> None:
    """Raise ConfigError unless the values are (n,)."""
    if values.shape != (n,):
        raise ConfigError(f"{name} has shape {tuple(values.shape)}: must be ({n},), one value per {unit}")
