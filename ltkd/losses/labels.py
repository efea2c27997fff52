"""Losses with the labels, for long-tailed data."""

import torch
import torch.nn.functional as F

from ..decomposition import as_float
from ..errors import ConfigError, unknown
from .parts import check_length, labelled, split_at_target


def effective_number_weights(class_counts, *, beta=0.9999):
    """Class weights by the effective number of images (Cui et al. 2019; BKD, Eq. 2), scaled to sum to C.

    class_counts (C,), each at least 1; 0 <= beta < 1 (0: equal weights, towards 1: inverse frequency) -> (C,) float32.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if not 0 <= beta < 1:
        raise ConfigError(f"beta = {beta}: must be at least 0 and below 1")
    _check_counts(counts)
    weights = (1 - beta) / (1 - beta**counts)
    return (weights * len(counts) / weights.sum()).float()


def class_balanced(logits, labels, class_weights, *, reduction="mean"):
    """Class-balanced cross-entropy (Cui et al. 2019): logits (B, C), labels (B,), class_weights (C,) -> scalar.

    reduction: "mean", the sum of w_y CE over B, as published; or "weighted", the same sum over the sum of w_y, as
    torch averages it. Of a long-tailed batch most w_y are small, so "mean" has a several times smaller gradient.
    """
    if reduction not in ("mean", "weighted"):
        raise unknown("reduction", reduction, ("mean", "weighted"))
    if reduction == "weighted":
        return _cross_entropy(logits, labels, class_weights)
    per_image = F.cross_entropy(labelled(logits, labels), labels, reduction="none")
    return (_weights_of(labels, class_weights, logits) * per_image).mean()


def focal(logits, labels, *, gamma, class_weights=None):
    """Softmax focal loss (Lin et al. 2017, with a softmax): mean of w_y (1 - p_y)^gamma CE.

    logits (B, C), labels (B,), class_weights (C,) or None for ones; p_y is that of the unweighted softmax -> scalar.
    """
    pair, _ = split_at_target(labelled(logits, labels), labels)
    return (_weights_of(labels, class_weights, logits) * _focal_terms(pair[:, 0], pair[:, 1], gamma)).mean()


def sigmoid_focal(logits, labels, *, gamma, class_weights=None):
    """Sigmoid focal loss (Lin et al. 2017; Cui et al. 2019): mean of w_y times the sum over C of (1 - p_t)^gamma BCE.

    logits (B, C), each the score of a binary classifier; labels (B,); class_weights (C,) or None for ones: the weight
    of the label holds for all C terms of an image -> scalar. A last bias that starts at -log(C - 1) keeps the C - 1
    wrong classes from dominating the first steps.
    """
    scores = labelled(logits, labels)
    signed = scores * torch.full_like(scores, -1).scatter(1, labels[:, None], 1)
    terms = _focal_terms(F.logsigmoid(signed), F.logsigmoid(-signed), gamma)
    return (_weights_of(labels, class_weights, logits) * terms.sum(1)).mean()


def ldam_margins(class_counts, *, max_margin=0.5):
    """LDAM's margins (Cao et al. 2019): proportional to n_c^(-1/4), the largest `max_margin`.

    class_counts (C,), each at least 1 -> (C,) float32.
    """
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    if not max_margin >= 0:
        raise ConfigError(f"max_margin = {max_margin}: must be at least 0")
    _check_counts(counts)
    return (max_margin * (counts.min() / counts) ** 0.25).float()


def ldam(logits, labels, margins, *, scale, class_weights=None):
    """Label-distribution-aware margin loss (Cao et al. 2019): CE after the target has lost scale * margin_y.

    logits (B, C): scale * cosine, what the network returns; labels (B,); margins (C,), in units of the cosine;
    class_weights (C,) or None: weighted as torch does, sum of w_y CE over the sum of w_y -> scalar.
    """
    scores = labelled(logits, labels)
    check_length("margins", margins, scores.shape[1], "class")
    shift = scale * margins.to(scores)[labels]
    return _cross_entropy(scores.scatter_add(1, labels[:, None], -shift[:, None]), labels, class_weights)


def logit_adjusted(logits, labels, class_counts, *, tau=1.0):
    """Logit adjusted cross-entropy (Menon et al. 2021): CE(z + tau log prior, y); test on z as it is.

    logits (B, C), labels (B,), class_counts (C,) of the training set, each at least 1 -> scalar.
    """
    return _cross_entropy(adjust_logits(logits, class_counts, tau=-tau), labels)


def balanced_softmax(logits, labels, class_counts):
    """Balanced softmax (Ren et al. 2020): -log(n_y e^z_y / sum of n_c e^z_c); logit adjustment with tau = 1.

    logits (B, C), labels (B,), class_counts (C,), each at least 1 -> scalar.
    """
    return logit_adjusted(logits, labels, class_counts, tau=1.0)


def adjust_logits(logits, class_counts, *, tau):
    """Post-hoc logit adjustment (Menon et al. 2021): z - tau log prior, in float32 or better: (B, C) -> (B, C).

    For the logits of a network trained with plain cross-entropy; never on top of `logit_adjusted`.
    """
    scores, counts = as_float(logits), torch.as_tensor(class_counts)
    check_length("class_counts", counts, scores.shape[-1], "class")
    if counts.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere the look would stall each step
        _check_counts(counts)
    counts = counts.to(scores)
    return scores - tau * (counts / counts.sum()).log()


def _focal_terms(log_p, log_rest, gamma):
    """-(1 - p)^gamma log p, from log p and log(1 - p): the gradient stays finite where p rounds to one."""
    if not gamma >= 0:
        raise ConfigError(f"gamma = {gamma}: must be at least 0")
    return -(gamma * log_rest).exp() * log_p


def _cross_entropy(logits, labels, class_weights=None):
    """Cross-entropy; with class weights (C,) the sum of w_y CE over the sum of w_y."""
    scores = labelled(logits, labels)
    if class_weights is not None:
        check_length("class_weights", class_weights, scores.shape[1], "class")
        class_weights = class_weights.to(scores)
    return F.cross_entropy(scores, labels, class_weights)


def _weights_of(labels, class_weights, logits):
    """The weight of each image's class, (B,); 1 where there are no class weights."""
    if class_weights is None:
        return 1.0
    check_length("class_weights", class_weights, logits.shape[1], "class")
    return class_weights.to(as_float(logits))[labels]


def _check_counts(counts):
    if not (counts >= 1).all():
        raise ConfigError("every class needs at least one image; drop the classes that have none")
