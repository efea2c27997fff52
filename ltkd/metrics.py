"""What saved logits say: accuracy per class and group, confusion, calibration, bias. Arrays in, plain numbers out.

logits (N, C), labels (N,); accuracies in per cent.
"""

from typing import NamedTuple

import numpy as np

from .groups import ClassGroups


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
