"""What saved logits say: accuracy per class and group, confusion, calibration, bias. Arrays in, plain numbers out.

logits (N, C), labels (N,); accuracies in per cent.
"""

from typing import NamedTuple

import numpy as np
import torch

from .decomposition import decompose, group_mass, log_group_mass
from .errors import ConfigError
from .groups import ClassGroups
from .losses import log_rebalance


def per_class_accuracy(logits, labels):
    """Accuracy on the images of each class: (C,), NaN for a class without images."""
    n_classes = logits.shape[1]
    totals = np.bincount(labels, minlength=n_classes)
    hits = np.bincount(labels[logits.argmax(1) == labels], minlength=n_classes)
    with np.errstate(invalid="ignore"):
        return 100 * hits / totals


def group_accuracy(logits, labels, groups):
    """Accuracy on all images and on the images of each group: {'all': ..., name: ...}."""
    correct, group = logits.argmax(1) == labels, groups.index.numpy()[labels]
    by_group = {name: 100 * float(correct[group == g].mean()) for g, name in enumerate(groups.names)}
    return {"all": 100 * float(correct.mean()), **by_group}


def thirds(class_counts):
    """Head, medium and tail by rank (LTKD, section 4.1); fewer groups where there are fewer than three classes."""
    return ClassGroups.by_rank(class_counts)


def report(logits, labels, class_counts):
    """The accuracies that this project reports, in per cent: all, head, medium, tail (thirds by rank, LTKD's) and
    many_shot, medium_shot, few_shot (by training images, BKD's; None where there is no such class)."""
    shots = group_accuracy(logits, labels, ClassGroups.by_shots(class_counts))
    by_shots = {f"{name}_shot": shots.get(name) for name in ("many", "medium", "few")}
    return group_accuracy(logits, labels, thirds(class_counts)) | by_shots


def confusion(logits, labels):
    """Shares of each true class's images that go to each class: (C, C), rows are true classes and sum to one."""
    n_classes = logits.shape[1]
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (labels, logits.argmax(1)), 1)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def group_confusion(logits, labels, groups):
    """Shares of each group's images that go to each group: (G, G), rows are true groups and sum to one."""
    index = groups.index.numpy()
    counts = np.zeros((groups.n_groups, groups.n_groups))
    np.add.at(counts, (index[labels], index[logits.argmax(1)]), 1)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def softmax(logits, temperature=1.0):
    """Probabilities (N, C), in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    exponentials = np.exp(scaled)
    return exponentials / exponentials.sum(1, keepdims=True)


def reliability(logits, labels, n_bins=15):
    """Confidence against accuracy in equal bins of confidence: three (n_bins,) arrays, confidence, accuracy (both in
    0 to 1, NaN where a bin is empty) and the share of the images."""
    probabilities = softmax(logits)
    return _reliability(probabilities.max(1), probabilities.argmax(1) == labels, n_bins)


def _reliability(confidence, correct, n_bins):
    """`reliability` from the confidence (N,) and whether the answer is right (N,)."""
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    size = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, confidence, n_bins) / size
        accuracy = np.bincount(bins, correct, n_bins) / size
    return mean_confidence, accuracy, size / size.sum()


def expected_calibration_error(logits, labels, n_bins=15):
    """Mean distance between confidence and accuracy over the images (Guo et al. 2017), in 0 to 1."""
    return _calibration_error(*reliability(logits, labels, n_bins))


def _calibration_error(confidence, accuracy, share):
    return float(np.nansum(np.abs(confidence - accuracy) * share))


class Calibration(NamedTuple):
    """accuracy: in per cent; confidence: mean probability of the answer, in per cent; error: expected calibration
    error, in percentage points; curve: as `reliability` gives it, in 0 to 1."""

    accuracy: float
    confidence: float
    error: float
    curve: tuple


def calibration_by_group(logits, labels, groups, *, temperature=1.0, n_bins=10):
    """Calibration on all images and on those of each group that has any: {'all': Calibration, name: Calibration}."""
    probabilities = softmax(logits, temperature)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    group = groups.index.numpy()[labels]
    members = {"all": np.full(len(labels), True)} | {name: group == g for g, name in enumerate(groups.names)}
    return {name: _calibration(confidence[of], correct[of], n_bins) for name, of in members.items() if of.any()}


def _calibration(confidence, correct, n_bins):
    curve = _reliability(confidence, correct, n_bins)
    return Calibration(
        100 * float(correct.mean()), 100 * float(confidence.mean()), 100 * _calibration_error(*curve), curve
    )


def bias_slope(logits, class_counts, *, temperature=1.0):
    """How much of the class prior the network has learned: the slope of log(mean probability of a class) against
    log(its training images), over images of all classes alike. 0: no bias; 1: the whole prior."""
    return prior_slope(softmax(logits, temperature).mean(0), class_counts)


def prior_slope(mean_probability, class_counts):
    """`bias_slope` from the mean probability of each class (C,); NaN where all classes have as many images."""
    counts = np.asarray(class_counts)
    if (counts == counts[0]).all():
        return float("nan")
    return float(np.polyfit(np.log(counts), np.log(mean_probability), 1)[0])


def batch_mass(logits, groups, *, batch_size, temperature=1.0):
    """Summed group probabilities of each full batch, in the order of the rows: (N, C) -> (N // batch_size, G)."""
    mass = group_mass(torch.as_tensor(logits), groups, temperature=temperature).double()
    return in_batches(mass, batch_size).sum(1).numpy()


def in_batches(rows, batch_size):
    """Rows in full batches, in their order, without what is left over: (N, ...) -> (N // B, B, ...)."""
    if not 1 <= batch_size <= len(rows):
        raise ConfigError(f"batch_size = {batch_size}: must lie between 1 and the number of images, {len(rows)}")
    full = len(rows) // batch_size
    return rows[: full * batch_size].reshape(full, batch_size, *rows.shape[1:])


class Rebalancing(NamedTuple):
    """What LTKD's Eq. 9 to 11 do to each of n batches, all (n, G).

    images: images of the group, by label; teacher: the teacher's summed group mass; factors: Eq. 10, with which every
    group's sum would be the same; rebalanced: the sums after Eq. 11, whose rows sum to one again.
    """

    images: np.ndarray
    teacher: np.ndarray
    factors: np.ndarray
    rebalanced: np.ndarray


def rebalance_batches(logits, labels, groups, *, batch_size, temperature=1.0):
    """`losses.rebalance` of each full batch, in the order of the rows: (N, C), (N,) -> Rebalancing."""
    log_mass = in_batches(log_group_mass(torch.as_tensor(logits), groups, temperature=temperature), batch_size).double()
    teacher = log_mass.exp().sum(1)
    rebalanced = log_rebalance(log_mass).exp().sum(1)
    of_group = torch.nn.functional.one_hot(groups.index[torch.as_tensor(labels)], groups.n_groups)
    factors = teacher.mean(1, keepdim=True) / teacher
    images = in_batches(of_group, batch_size).sum(1)
    return Rebalancing(*(values.numpy() for values in (images, teacher, factors, rebalanced)))


class Terms(NamedTuple):
    """The parts of KL(teacher || student) of each image (LTKD, Eq. 8), in float64.

    cross (N,), within (N, G): unweighted, in nats; mass (N, G): the teacher's p_G, which weighs them in Eq. 8;
    cross_gradient (N,), within_gradient (N, G): length of each unweighted term's gradient on the student's logits;
    error: largest difference between the two sides of Eq. 8 on these images, in nats.
    """

    cross: np.ndarray
    within: np.ndarray
    mass: np.ndarray
    cross_gradient: np.ndarray
    within_gradient: np.ndarray
    error: float


def kl_terms(teacher_logits, student_logits, groups, *, temperature=1.0):
    """Terms of two (N, C) arrays of logits; without the T² that a loss has."""
    teacher = torch.as_tensor(teacher_logits).double()
    student = torch.as_tensor(student_logits).detach().double().clone().requires_grad_()
    kl, cross, within, mass, _ = decompose(teacher, student, groups, temperature=temperature)
    lengths = [
        torch.autograd.grad(term.sum(), student, retain_graph=True)[0].norm(dim=1)
        for term in (cross, *within.unbind(1))
    ]
    error = float((kl - cross - (mass * within).sum(1)).detach().abs().max())
    arrays = (cross, within, mass, lengths[0], torch.stack(lengths[1:], 1))
    return Terms(*(x.detach().numpy() for x in arrays), error)


class WeightedTerms(NamedTuple):
    """Means over some images. weights (G,): of the within-group terms; values (1 + G,): the cross-group term, then the
    weighted within-group terms, in nats; pull (1 + G,): mean length of the gradient of each of these."""

    weights: np.ndarray
    values: np.ndarray
    pull: np.ndarray


def weigh(terms, beta=None, images=slice(None)):
    """The terms with the within-group ones weighted by the teacher's mass (Eq. 8) or by `beta` (Eq. 13), averaged over
    `images` (indices, or True for each that counts)."""
    weights = terms.mass if beta is None else np.full_like(terms.mass, beta)
    values = np.column_stack([terms.cross, weights * terms.within])
    pull = np.column_stack([terms.cross_gradient, weights * terms.within_gradient])
    return WeightedTerms(*(x[images].mean(0) for x in (weights, values, pull)))


def gradient_by_group(loss, student_logits, labels, groups):
    """Mean norm of the loss's gradient with respect to a sample's logits, by the group of the sample's label.

    loss: (B, C) student logits -> scalar, a mean over the batch; labels (B,) -> {group: norm}, NaN without an image.
    """
    logits = torch.as_tensor(student_logits).detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits), logits)
    norms = gradient.norm(dim=1).numpy() * len(logits)
    group = groups.index.numpy()[np.asarray(labels)]
    members = {name: group == g for g, name in enumerate(groups.names)}
    return {name: float(norms[of].mean()) if of.any() else float("nan") for name, of in members.items()}


def from_most_to_fewest(class_counts):
    """The classes by their training images, from most to fewest, ties by index as in ClassGroups.by_rank: (C,)."""
    return np.argsort(-np.asarray(class_counts), kind="stable")


def sorted_confusion(logits, labels, class_counts):
    """`confusion` with the classes from most to fewest training images (BKD, Fig. 2): (C, C)."""
    order = from_most_to_fewest(class_counts)
    return confusion(logits, labels)[np.ix_(order, order)]


def accuracy_by_size(logits, labels, class_counts, n_bins=10):
    """Accuracy against class size, with classes of neighbouring size taken together: one class has too few test images.

    Returns two (n_bins,) arrays, from most to fewest: the geometric mean of the training images of a bin's classes, and
    the mean of their accuracies in per cent.
    """
    accuracy, order = per_class_accuracy(logits, labels), from_most_to_fewest(class_counts)
    order = order[~np.isnan(accuracy[order])]  # classes without test images say nothing
    bins = np.array_split(order, min(n_bins, len(order)))
    logs = np.log(np.maximum(class_counts, 1))
    return np.exp([logs[members].mean() for members in bins]), np.array([accuracy[members].mean() for members in bins])
