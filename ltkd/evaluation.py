"""What saved logits say: accuracy per class and group, confusion, calibration, bias. Arrays in, plain numbers out.

logits (N, C), labels (N,); accuracies in per cent.
"""

import numpy as np
import torch

from .decomposition import group_mass
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
    return ClassGroups.by_rank(class_counts, min(3, len(class_counts)))


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
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    size = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bins, confidence, n_bins) / size
        accuracy = np.bincount(bins, correct, n_bins) / size
    return mean_confidence, accuracy, size / size.sum()


def expected_calibration_error(logits, labels, n_bins=15):
    """Mean distance between confidence and accuracy over the images (Guo et al. 2017), in 0 to 1."""
    confidence, accuracy, share = reliability(logits, labels, n_bins)
    return float(np.nansum(np.abs(confidence - accuracy) * share))


def bias_slope(logits, class_counts):
    """How much of the class prior the network has learned: the slope of log(mean probability of a class) against
    log(its training images), over images of all classes alike. 0: no bias; 1: the whole prior."""
    mean_probability = softmax(logits).mean(0)
    return float(np.polyfit(np.log(np.asarray(class_counts)), np.log(mean_probability), 1)[0])


def batch_mass(logits, groups, *, batch_size, temperature=1.0):
    """Summed group probabilities of each full batch, in the order of the rows: (N, C) -> (N // batch_size, G)."""
    mass = group_mass(torch.as_tensor(logits), groups, temperature=temperature).double().numpy()
    full = len(mass) // batch_size
    return mass[: full * batch_size].reshape(full, batch_size, -1).sum(1)


def gradient_by_group(loss, student_logits, labels, groups):
    """Mean norm of the loss's gradient with respect to a sample's logits, by the group of the sample's label.

    loss: (B, C) student logits -> scalar, a mean over the batch; labels (B,) -> {group: norm}.
    """
    logits = torch.as_tensor(student_logits).detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits), logits)
    norms = gradient.norm(dim=1).numpy() * len(logits)
    group = groups.index.numpy()[np.asarray(labels)]
    return {name: float(norms[group == g].mean()) for g, name in enumerate(groups.names)}
