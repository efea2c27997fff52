"""Metrics of saved logits: accuracy per class and group, confusion, calibration, bias.

NumPy arrays in: logits (N, C), labels (N,) integers, class_counts (C,) training images of each class. Accuracies are
in per cent.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .groups import ClassGroups

Array = NDArray[Any]
Floats = NDArray[np.float64]


def per_class_accuracy(logits: Array, labels: Array) -> Floats:
    """Accuracy on the images of each class: (C,), NaN for a class without images."""
    n_classes = logits.shape[1]
    totals = np.bincount(labels, minlength=n_classes)
    hits = np.bincount(labels[logits.argmax(1) == labels], minlength=n_classes)
    with np.errstate(invalid="ignore"):
        accuracy: Floats = 100 * hits / totals
    return accuracy


def group_accuracy(logits: Array, labels: Array, groups: ClassGroups) -> dict[str, float]:
    """Accuracy on all images and on the images of each group: {'all': ..., name: ...}.

    >>> groups = ClassGroups.by_rank([90, 9], n_groups=2)
    >>> group_accuracy(np.array([[2.0, 1.0], [2.0, 1.0]]), np.array([0, 1]), groups)
    {'all': 50.0, 'head': 100.0, 'tail': 0.0}
    """
    correct, group = logits.argmax(1) == labels, groups.index.numpy()[labels]
    by_group = {name: 100 * float(correct[group == g].mean()) for g, name in enumerate(groups.names)}
    return {"all": 100 * float(correct.mean()), **by_group}


def thirds(class_counts: ArrayLike) -> ClassGroups:
    """Head, medium and tail by rank (LTKD, section 4.1); fewer groups where there are fewer than three classes."""
    return ClassGroups.by_rank(class_counts)


def report(logits: Array, labels: Array, class_counts: ArrayLike) -> dict[str, float | None]:
    """The accuracies that this project reports: all; head, medium, tail (thirds by rank, as in LTKD); many_shot,
    medium_shot, few_shot (by training images, as in BKD; None if there is no such class)."""
    shots = group_accuracy(logits, labels, ClassGroups.by_shots(class_counts))
    by_shots = {f"{name}_shot": shots.get(name) for name in ("many", "medium", "few")}
    return group_accuracy(logits, labels, thirds(class_counts)) | by_shots


def confusion(logits: Array, labels: Array) -> Floats:
    """Share of each true class's images predicted as each class: (C, C), rows are true classes and sum to one."""
    return _confusion(labels, logits.argmax(1), logits.shape[1])


def group_confusion(logits: Array, labels: Array, groups: ClassGroups) -> Floats:
    """Share of each group's images predicted as each group: (G, G), rows are true groups and sum to one."""
    index = groups.index.numpy()
    return _confusion(index[labels], index[logits.argmax(1)], groups.n_groups)


def _confusion(true: Array, predicted: Array, n: int) -> Floats:
    counts = np.zeros((n, n))
    np.add.at(counts, (true, predicted), 1)
    shares: Floats = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Probabilities (N, C), in float64."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    exponentials = np.exp(scaled)
    probabilities: Floats = exponentials / exponentials.sum(1, keepdims=True)
    return probabilities


def reliability(logits: Array, labels: Array, n_bins: int = 15) -> tuple[Floats, Floats, Floats]:
    """Confidence and accuracy in equal bins of confidence: three (n_bins,) arrays, mean confidence, accuracy (both in
    0 to 1, NaN for an empty bin) and the share of the images."""
    probabilities = softmax(logits)
    return _reliability(probabilities.max(1), probabilities.argmax(1) == labels, n_bins)


def _reliability(confidence: Floats, correct: Array, n_bins: int) -> tuple[Floats, Floats, Floats]:
    """`reliability` from the confidence (N,) and whether the prediction is correct (N,)."""
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    size = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, confidence, n_bins) / size
        accuracy = np.bincount(bins, correct, n_bins) / size
    return mean_confidence, accuracy, size / size.sum()


def expected_calibration_error(logits: Array, labels: Array, n_bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over all images (Guo et al. 2017), in 0 to 1."""
    return _calibration_error(*reliability(logits, labels, n_bins))


def _calibration_error(confidence: Floats, accuracy: Floats, share: Floats) -> float:
    return float(np.nansum(np.abs(confidence - accuracy) * share))


class Calibration(NamedTuple):
    """accuracy: in per cent; confidence: mean probability of the prediction, in per cent; error: expected calibration
    error, in percentage points; curve: the result of `reliability`, in 0 to 1."""

    accuracy: float
    confidence: float
    error: float
    curve: tuple[Floats, Floats, Floats]


def calibration_by_group(
    logits: Array, labels: Array, groups: ClassGroups, *, temperature: float = 1.0, n_bins: int = 10
) -> dict[str, Calibration]:
    """Calibration on all images and on those of each group with images: {'all': Calibration, name: Calibration}."""
    probabilities = softmax(logits, temperature)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    group = groups.index.numpy()[labels]
    members = {"all": np.full(len(labels), True)} | {name: group == g for g, name in enumerate(groups.names)}
    return {name: _calibration(confidence[of], correct[of], n_bins) for name, of in members.items() if of.any()}


def _calibration(confidence: Floats, correct: Array, n_bins: int) -> Calibration:
    curve = _reliability(confidence, correct, n_bins)
    return Calibration(
        100 * float(correct.mean()), 100 * float(confidence.mean()), 100 * _calibration_error(*curve), curve
    )


def bias_slope(logits: Array, class_counts: ArrayLike, *, temperature: float = 1.0) -> float:
    """How much of the class prior the network has learned: the slope of log(mean probability of a class) against
    log(its training images), on images with equally many of each class. 0: no bias; 1: the whole prior."""
    return prior_slope(softmax(logits, temperature).mean(0), class_counts)


def prior_slope(mean_probability: ArrayLike, class_counts: ArrayLike) -> float:
    """`bias_slope` from the mean probability of each class (C,); NaN if all classes have the same number of images."""
    counts = np.asarray(class_counts)
    if (counts == counts[0]).all():
        return float("nan")
    return float(np.polyfit(np.log(counts), np.log(mean_probability), 1)[0])


def from_most_to_fewest(class_counts: ArrayLike) -> NDArray[np.intp]:
    """The classes sorted by training images, most first, ties by index as in ClassGroups.by_rank: (C,)."""
    return np.argsort(-np.asarray(class_counts), kind="stable")


def sorted_confusion(logits: Array, labels: Array, class_counts: ArrayLike) -> Floats:
    """`confusion` with the classes from most to fewest training images (BKD, Fig. 2): (C, C)."""
    order = from_most_to_fewest(class_counts)
    return confusion(logits, labels)[np.ix_(order, order)]


def accuracy_by_size(logits: Array, labels: Array, class_counts: Array, n_bins: int = 10) -> tuple[Floats, Floats]:
    """Accuracy against class size, in bins of classes of similar size, since one class has too few test images.

    Returns two (n_bins,) arrays, from most to fewest: the geometric mean of the training images of the classes in a
    bin, and the mean of their accuracies in per cent.
    """
    accuracy, order = per_class_accuracy(logits, labels), from_most_to_fewest(class_counts)
    order = order[~np.isnan(accuracy[order])]  # classes without test images have no accuracy
    bins = np.array_split(order, min(n_bins, len(order)))
    logs = np.log(np.maximum(class_counts, 1))
    return np.exp([logs[members].mean() for members in bins]), np.array([accuracy[members].mean() for members in bins])
