"""Losses with the labels, for long-tailed data."""

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from ..decomposition import as_float, may_look
from ..errors import ConfigError, unknown
from ._shared import check_length, labelled, target_and_rest


def effective_number_weights(class_counts: ArrayLike | Tensor, *, beta: float = 0.9999) -> Tensor:
    """Class weights by the effective number of images (Cui et al. 2019; BKD, Eq. 2), scaled to sum to C.

    class_counts (C,), each at least 1; 0 <= beta < 1 (0: equal weights, towards 1: inverse frequency) -> (C,) float32.
    Raises: ConfigError if beta or a count is out of range.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if not 0 <= beta < 1:
        raise ConfigError(f"beta = {beta}: must be at least 0 and below 1")
    _check_counts(counts)
    weights = (1 - beta) / (1 - beta**counts)
    return (weights * len(counts) / weights.sum()).float()


def class_balanced(
    logits: Tensor, labels: Tensor, class_weights: ArrayLike | Tensor, *, reduction: str = "mean"
) -> Tensor:
    """Class-balanced cross-entropy (Cui et al. 2019): logits (B, C), labels (B,), class_weights (C,) -> scalar.

    reduction: "mean", the sum of w_y CE divided by B, as published; or "weighted", the same sum divided by the sum of
    w_y, as in torch. Most w_y of a long-tailed batch are small, so the gradient of "mean" is several times smaller.
    Raises: ConfigError if a shape is wrong, if the labels are not int64, or if the reduction is unknown.
    """
    if reduction not in ("mean", "weighted"):
        raise unknown("reduction", reduction, ("mean", "weighted"))
    if reduction == "weighted":
        return _cross_entropy(logits, labels, class_weights)
    per_image = F.cross_entropy(labelled(logits, labels), labels, reduction="none")
    return (_weights_of(labels, class_weights, logits) * per_image).mean()


def focal(logits: Tensor, labels: Tensor, *, gamma: float, class_weights: ArrayLike | Tensor | None = None) -> Tensor:
    """Softmax focal loss (Lin et al. 2017, with a softmax): mean of w_y (1 - p_y)^gamma CE.

    logits (B, C), labels (B,), class_weights (C,) or None for ones; p_y is that of the unweighted softmax -> scalar.
    Raises: ConfigError if a shape is wrong, if the labels are not int64, or if gamma is below 0.
    """
    rest, target = target_and_rest(labelled(logits, labels), labels).mass.unbind(1)
    return (_weights_of(labels, class_weights, logits) * _focal_terms(target, rest, gamma)).mean()


def sigmoid_focal(
    logits: Tensor, labels: Tensor, *, gamma: float, class_weights: ArrayLike | Tensor | None = None
) -> Tensor:
    """Sigmoid focal loss (Lin et al. 2017; Cui et al. 2019): mean of w_y times the sum over C of (1 - p_t)^gamma BCE.

    logits (B, C), each the score of a binary classifier; labels (B,); class_weights (C,) or None for ones: the weight
    of the label applies to all C terms of an image -> scalar. Start the last layer's bias at -log(C - 1): otherwise
    the C - 1 wrong classes dominate the first steps.
    Raises: as `focal`.
    """
    scores = labelled(logits, labels)
    signed = scores * torch.full_like(scores, -1).scatter(1, labels[:, None], 1)
    terms = _focal_terms(F.logsigmoid(signed), F.logsigmoid(-signed), gamma)
    return (_weights_of(labels, class_weights, logits) * terms.sum(1)).mean()


def ldam_margins(class_counts: ArrayLike | Tensor, *, max_margin: float = 0.5) -> Tensor:
    """LDAM's margins (Cao et al. 2019): proportional to n_c^(-1/4), the largest `max_margin`.

    class_counts (C,), each at least 1 -> (C,) float32.
    Raises: ConfigError if max_margin is below 0, or a count below 1.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if not max_margin >= 0:
        raise ConfigError(f"max_margin = {max_margin}: must be at least 0")
    _check_counts(counts)
    return (max_margin * (counts.min() / counts) ** 0.25).float()


def ldam(
    logits: Tensor,
    labels: Tensor,
    margins: ArrayLike | Tensor,
    *,
    scale: float,
    class_weights: ArrayLike | Tensor | None = None,
) -> Tensor:
    """Label-distribution-aware margin loss (Cao et al. 2019): CE with the target's logit lowered by scale * margin_y.

    logits (B, C): scale * cosine, what the network returns; labels (B,); margins (C,), in units of the cosine;
    class_weights (C,) or None: weighted as in torch, the sum of w_y CE divided by the sum of w_y -> scalar.
    Raises: ConfigError if a shape is wrong, or if the labels are not int64.
    """
    scores = labelled(logits, labels)
    shift = scale * check_length("margins", margins, scores.shape[1], "class").to(scores)[labels]
    return _cross_entropy(scores.scatter_add(1, labels[:, None], -shift[:, None]), labels, class_weights)


def logit_adjusted(logits: Tensor, labels: Tensor, class_counts: ArrayLike | Tensor, *, tau: float = 1.0) -> Tensor:
    """Logit adjusted cross-entropy (Menon et al. 2021): CE(z + tau log prior, y); test on z as it is.

    logits (B, C), labels (B,), class_counts (C,) of the training set, each at least 1 -> scalar.
    Raises: ConfigError if a shape is wrong, if the labels are not int64, or if a count is below 1.
    """
    return _cross_entropy(adjust_logits(logits, class_counts, tau=-tau), labels)


def balanced_softmax(logits: Tensor, labels: Tensor, class_counts: ArrayLike | Tensor) -> Tensor:
    """Balanced softmax (Ren et al. 2020): -log(n_y e^z_y / sum of n_c e^z_c); logit adjustment with tau = 1.

    logits (B, C), labels (B,), class_counts (C,), each at least 1 -> scalar. Raises: as `logit_adjusted`.
    """
    return logit_adjusted(logits, labels, class_counts, tau=1.0)


def adjust_logits(logits: Tensor, class_counts: ArrayLike | Tensor, *, tau: float) -> Tensor:
    """Post-hoc logit adjustment (Menon et al. 2021): z - tau log prior, in float32 or better: (B, C) -> (B, C).

    For the logits of a network trained with plain cross-entropy; never on top of `logit_adjusted`.
    Raises: ConfigError if class_counts is not (C,) or, on the CPU, if a count is below 1.
    """
    scores = as_float(logits)
    counts = check_length("class_counts", class_counts, scores.shape[-1], "class")
    if may_look(counts):
        _check_counts(counts)
    counts = counts.to(scores)
    return scores - tau * (counts / counts.sum()).log()


def _focal_terms(log_p: Tensor, log_rest: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p, from log p and log(1 - p): the gradient stays finite where p rounds to one."""
    if not gamma >= 0:
        raise ConfigError(f"gamma = {gamma}: must be at least 0")
    finite = log_rest.clamp_min(torch.finfo(log_rest.dtype).min)  # gamma = 0 times -inf would be nan
    return -(gamma * finite).exp() * log_p


def _cross_entropy(logits: Tensor, labels: Tensor, class_weights: ArrayLike | Tensor | None = None) -> Tensor:
    """Cross-entropy; with class weights (C,) the sum of w_y CE divided by the sum of w_y."""
    per_image = F.cross_entropy(labelled(logits, labels), labels, reduction="none")
    if class_weights is None:
        return per_image.mean()
    weights = _weights_of(labels, class_weights, logits)  # not torch's argument `weight`, which has no gradient
    return (weights * per_image).sum() / weights.sum()


def _weights_of(labels: Tensor, class_weights: ArrayLike | Tensor | None, logits: Tensor) -> Tensor:
    """The weight of each image's class, (B,); ones without class weights."""
    if class_weights is None:
        return as_float(logits).new_ones(len(labels))
    return check_length("class_weights", class_weights, logits.shape[1], "class").to(as_float(logits))[labels]


def _check_counts(counts: Tensor) -> None:
    if not (counts >= 1).all():
        raise ConfigError("every class needs at least one image; drop the classes that have none")
