"""Metrics of saved logits: accuracy per class and group, confusion, calibration, bias.

NumPy arrays in: logits (N, C), labels (N,) integers, class_counts (C,) training images of each class. Accuracies are
in per cent.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .decomposition import check_temperature
from .errors import ConfigError
from .groups import ClassGroups, counts_per_class

Array = NDArray[Any]
Floats = NDArray[np.float64]
TINY = np.finfo(np.float64).tiny  # in place of a mean probability of 0, whose logarithm is -inf


class Counts(NamedTuple):
    """What a network answers on labelled images, counted per class: integer arrays (C,).

    images: images of the class; hits: those of them that are predicted correctly; predicted: images of any class that
    are predicted as this class.
    """

    images: Array
    hits: Array
    predicted: Array

    @property
    def recall(self) -> Floats:
        """Accuracy on the images of the class: (C,) in per cent, NaN for a class without images."""
        return per_cent(self.hits, self.images)

    @property
    def precision(self) -> Floats:
        """Share of the predictions of a class that are correct: (C,) in per cent, 0 if the class is never predicted."""
        return per_cent(self.hits, np.maximum(self.predicted, 1))

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall: (C,) in per cent, NaN for a class without images."""
        f1: Floats = np.where(self.images > 0, per_cent(2 * self.hits, self.images + self.predicted), np.nan)
        return f1

    def rounded(self) -> dict[str, list[float | None]]:
        """Images, predictions, recall, precision and F1 of each class, for a JSON file: lists of C numbers, in per
        cent with six digits after the point; None for a class without images."""
        shares = {name: np.round(getattr(self, name), 6).tolist() for name in ("recall", "precision", "f1")}
        known = {name: [v if v == v else None for v in values] for name, values in shares.items()}
        return {"images": self.images.tolist(), "predicted": self.predicted.tolist(), **known}


def per_cent(part: Array, whole: Array) -> Floats:
    """100 * part / whole, NaN where the whole is zero: (C,)."""
    shares: Floats = 100 * np.divide(part, whole, out=np.full(len(whole), np.nan), where=np.asarray(whole > 0))
    return shares


def count(logits: Array, labels: Array) -> Counts:
    """The Counts of logits (N, C) and labels (N,). Raises ConfigError as `checked` does."""
    logits, labels = checked(logits, labels)
    predicted = logits.argmax(1)
    return Counts(
        *(np.bincount(c, minlength=logits.shape[1]) for c in (labels, labels[predicted == labels], predicted))
    )


def checked(logits: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays. Raises ConfigError unless logits are (N, C) numbers with N >= 1, without NaN, +inf and rows of
    nothing but -inf, and labels are (N,) integers from 0 to C - 1. A masked class may have the logit -inf."""
    try:
        logits, labels = np.asarray(logits), np.asarray(labels)
    except (TypeError, ValueError, RuntimeError) as error:  # such as ragged lists, bfloat16, or tensors with a gradient
        raise ConfigError(f"logits and labels must be arrays of numbers ({error}); convert tensors first") from error
    if logits.dtype.kind not in "biuf" or logits.ndim != 2 or not logits.size or labels.shape != logits.shape[:1]:
        raise ConfigError(
            f"logits {logits.dtype} of shape {logits.shape} and labels of shape {labels.shape}: give logits (N, C) and "
            f"labels (N,) of the same N images, at least one"
        )
    if labels.dtype.kind not in "iu":
        raise ConfigError(
            f"labels are {labels.dtype}: give the number of each image's class, an integer from 0 to C - 1"
        )
    low, high, classes = labels.min(), labels.max(), logits.shape[1]
    if low < 0 or high >= classes:
        raise ConfigError(
            f"labels lie between {low} and {high}, but logits of {classes} classes need labels from 0 to "
            f"{classes - 1}; drop images without a label"
        )
    broken = int((~(logits.max(1) < np.inf) | (logits.max(1) == -np.inf)).sum())  # the maximum of NaN is NaN
    if broken:
        raise ConfigError(
            f"the logits of {broken} of {len(logits)} images hold NaN, +inf or nothing but -inf: the network has no "
            f"answer there"
        )
    return logits, labels


def per_class_accuracy(logits: Array, labels: Array) -> Floats:
    """Accuracy on the images of each class: (C,), NaN for a class without images."""
    return count(logits, labels).recall


def group_accuracy(logits: Array, labels: Array, groups: ClassGroups) -> dict[str, float | None]:
    """Plain accuracy on all images, and of each group the mean over its classes: {'all': ..., name: ...}.

    The mean over classes does not depend on how many test images a class has. On equally many of each class it is the
    accuracy on the group's images, as in the papers. None for a group without images.

    >>> groups = ClassGroups.by_rank([90, 9], n_groups=2)
    >>> group_accuracy(np.array([[2.0, 1.0], [2.0, 1.0]]), np.array([0, 1]), groups)
    {'all': 50.0, 'head': 100.0, 'tail': 0.0}
    """
    counts = count(logits, labels)
    return {"all": _plain_accuracy(counts), **group_means(counts.recall, groups)}


def _plain_accuracy(counts: Counts) -> float:
    return 100 * float(counts.hits.sum() / counts.images.sum())


def group_means(per_class: Floats, groups: ClassGroups) -> dict[str, float | None]:
    """Mean of a value per class (C,) over the classes of each group: {name: ...}. NaN is left out; None if all are."""
    index = _index_of(groups, len(per_class))
    return {name: mean_known(per_class[index == g]) for g, name in enumerate(groups.names)}


def _index_of(groups: ClassGroups, n_classes: int) -> Array:
    """The group of each class (C,). Raises ConfigError for groups of another number of classes."""
    if groups.n_classes != n_classes:
        raise ConfigError(f"the groups are of {groups.n_classes} classes, but the logits of {n_classes}")
    return groups.index.numpy()


def _counts_of(class_counts: ArrayLike, n_classes: int) -> Array:
    """The class counts (C,). Raises ConfigError for counts of another number of classes."""
    counts = counts_per_class(class_counts).numpy()
    if len(counts) != n_classes:
        raise ConfigError(f"class_counts are of {len(counts)} classes, but the logits of {n_classes}")
    return counts


def mean_known(values: Floats) -> float | None:
    """Mean of the values that are not NaN; None if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def thirds(class_counts: ArrayLike) -> ClassGroups:
    """Head, medium and tail by rank (LTKD, section 4.1); fewer groups where there are fewer than three classes."""
    return ClassGroups.by_rank(class_counts)


def report(logits: Array, labels: Array, class_counts: ArrayLike) -> dict[str, float | None]:
    """The scores that this project reports, see `scores`. Raises ConfigError as `checked` does."""
    return scores(count(logits, labels), class_counts)


def scores(counts: Counts, class_counts: ArrayLike) -> dict[str, float | None]:
    """Scores in per cent; all but `all` are means over classes, whose numbers of test images then do not matter.

    all: accuracy on all images. balanced: mean accuracy of the classes. macro_f1: mean F1 of the classes. head, medium,
    tail: mean accuracy of the classes of a third by rank (LTKD, section 4.1). many_shot, medium_shot, few_shot: the
    same by training images (BKD, section 5.1). Classes without test images are left out; None for a group of such.
    """
    class_counts = _counts_of(class_counts, len(counts.images))
    shots = group_means(counts.recall, ClassGroups.by_shots(class_counts))
    return {
        "all": _plain_accuracy(counts),
        "balanced": mean_known(counts.recall),
        "macro_f1": mean_known(counts.f1),
        **group_means(counts.recall, thirds(class_counts)),
        **{f"{name}_shot": shots.get(name) for name in ("many", "medium", "few")},
    }


def unanswered(counts: Counts) -> str | None:
    """A sentence if some of the classes with images are never predicted, else None."""
    tested = counts.images > 0
    answered = int((counts.predicted[tested] > 0).sum())
    return f"the network predicts only {answered} of {tested.sum()} classes" if answered < tested.sum() else None


def remarks(counts: Counts) -> list[str]:
    """What a reader of the scores must know: classes that are never predicted, and an uneven test set."""
    tested, collapsed = counts.images > 0, unanswered(counts)
    found = [] if collapsed is None else [collapsed]
    if not tested.all():
        found.append(f"{(~tested).sum()} of {len(tested)} classes have no test images and no score")
    low, high = counts.images[tested].min(), counts.images.max()
    if low < high:
        found.append(f"the test set is uneven ({high} to {low} images per class): compare balanced, not all")
    return found


def confusion(logits: Array, labels: Array) -> Floats:
    """Share of each true class's images predicted as each class: (C, C), rows are true classes and sum to one; all
    zeros for a class without images."""
    logits, labels = checked(logits, labels)
    counts = np.zeros((logits.shape[1], logits.shape[1]))
    np.add.at(counts, (labels, logits.argmax(1)), 1)
    shares: Floats = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


def group_confusion(logits: Array, labels: Array, groups: ClassGroups) -> Floats:
    """Share predicted as each group, as mean over the classes of each true group: (G, G), rows are true groups and sum
    to one; all zeros for a group without images."""
    shares = confusion(logits, labels)
    to_group = np.eye(groups.n_groups)[_index_of(groups, len(shares))]
    tested = to_group * np.any(shares, axis=1, keepdims=True)
    means: Floats = tested.T @ shares @ to_group / np.maximum(tested.sum(0), 1)[:, None]
    return means


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """Probabilities (N, C), in float64."""
    check_temperature(temperature)
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    exponentials = np.exp(scaled)
    probabilities: Floats = exponentials / exponentials.sum(1, keepdims=True)
    return probabilities


def reliability(logits: Array, labels: Array, n_bins: int = 15) -> tuple[Floats, Floats, Floats]:
    """Confidence and accuracy in equal bins of confidence: three (n_bins,) arrays, mean confidence, accuracy (both in
    0 to 1, NaN for an empty bin) and the share of the images."""
    logits, labels = checked(logits, labels)
    probabilities = softmax(logits)
    correct = probabilities.argmax(1) == labels
    return _reliability(probabilities.max(1), correct, np.ones(len(labels)), n_bins)


def _reliability(confidence: Floats, correct: Array, weights: Floats, n_bins: int) -> tuple[Floats, Floats, Floats]:
    """`reliability` from the confidence, whether the prediction is correct, and the weight of each image: (N,) each."""
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    size, sure, right = (np.bincount(bins, weights * v, n_bins) for v in (1, confidence, correct))
    with np.errstate(invalid="ignore"):
        return sure / size, right / size, size / size.sum()


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
    """Calibration on all images and of each group with images: {'all': Calibration, name: Calibration}.

    In a group every class has the same weight, as in `group_accuracy`.
    """
    logits, labels = checked(logits, labels)
    probabilities = softmax(logits, temperature)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    group, weights = _index_of(groups, logits.shape[1])[labels], 1 / np.bincount(labels)[labels]
    found = {"all": _calibration(confidence, correct, np.ones(len(labels)), n_bins)}
    for g, name in enumerate(groups.names):
        if (of := group == g).any():
            found[name] = _calibration(confidence[of], correct[of], weights[of], n_bins)
    return found


def _calibration(confidence: Floats, correct: Array, weights: Floats, n_bins: int) -> Calibration:
    curve = _reliability(confidence, correct, weights, n_bins)
    accuracy, sure = (100 * float(np.average(values, weights=weights)) for values in (correct, confidence))
    return Calibration(accuracy, sure, 100 * _calibration_error(*curve), curve)


def mean_probability(logits: Array, labels: Array, *, temperature: float = 1.0) -> Floats:
    """Mean probability of each class over the images, where every true class has the same weight: (C,)."""
    logits, labels = checked(logits, labels)
    weights = 1 / np.bincount(labels)[labels]
    means: Floats = np.average(softmax(logits, temperature), axis=0, weights=weights)
    return means


def bias_slope(logits: Array, labels: Array, class_counts: ArrayLike, *, temperature: float = 1.0) -> float:
    """How much of the class prior the network has learned. 0: no bias; 1: the whole prior.

    The slope of log(`mean_probability` of a class) against log(its training images), over the classes with test and
    training images. A perfect classifier has 0 on any test set.
    """
    found, known = mean_probability(logits, labels, temperature=temperature), np.unique(labels)
    return prior_slope(found[known], _counts_of(class_counts, len(found))[known])


def prior_slope(mean_probability: ArrayLike, class_counts: ArrayLike) -> float:
    """`bias_slope` from the mean probability of each class (C,); NaN if all classes have the same number of images.

    Classes without training images are left out.
    """
    probability = np.asarray(mean_probability)
    counts = _counts_of(class_counts, len(probability))
    counts, probability = counts[counts > 0], probability[counts > 0]
    if len(np.unique(counts)) < 2:
        return float("nan")
    return float(np.polyfit(np.log(counts), np.log(np.maximum(probability, TINY)), 1)[0])


def from_most_to_fewest(class_counts: ArrayLike) -> NDArray[np.intp]:
    """The classes sorted by training images, most first, ties by index as in ClassGroups.by_rank: (C,)."""
    return np.argsort(-np.asarray(class_counts), kind="stable")


def sorted_confusion(logits: Array, labels: Array, class_counts: ArrayLike) -> Floats:
    """`confusion` with the classes from most to fewest training images (BKD, Fig. 2): (C, C)."""
    shares = confusion(logits, labels)
    order = from_most_to_fewest(_counts_of(class_counts, len(shares)))
    return shares[np.ix_(order, order)]


def accuracy_by_size(logits: Array, labels: Array, class_counts: Array, n_bins: int = 10) -> tuple[Floats, Floats]:
    """Accuracy against class size, in bins of classes of similar size, since one class has too few test images.

    Returns two (n_bins,) arrays, from most to fewest: the geometric mean of the training images of the classes in a
    bin, and the mean of their accuracies in per cent.
    """
    accuracy = per_class_accuracy(logits, labels)
    class_counts = _counts_of(class_counts, len(accuracy))
    order = from_most_to_fewest(class_counts)
    order = order[~np.isnan(accuracy[order])]  # classes without test images have no accuracy
    bins = np.array_split(order, min(n_bins, len(order)))
    logs = np.log(np.maximum(class_counts, 1))
    return np.exp([logs[members].mean() for members in bins]), np.array([accuracy[members].mean() for members in bins])
