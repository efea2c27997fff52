import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import draw, softmax
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix

from ltkd import ClassGroups, ConfigError, group_mass, metrics, rebalance
from ltkd.decomposition import log_group_mass
from ltkd.explore import batch_terms
from ltkd.losses import log_rebalance

GROUPS = ClassGroups(("head", "tail"), torch.tensor([0, 1, 0, 1, 1]))
COUNTS = np.array([300, 90, 60, 15, 4])


@pytest.fixture
def answers():
    """Logits that are right somewhat more often than chance, and labels: unequally many a class."""
    labels = np.random.default_rng(0).choice(5, size=400, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    return draw(400, 5, scale=1.0).numpy() + np.eye(5)[labels], labels


def accuracies(logits, labels):
    """The accuracy of each class, in per cent, by a plain loop."""
    guesses = logits.argmax(1)
    return np.array([100 * np.mean(guesses[labels == c] == c) for c in range(logits.shape[1])])


def test_accuracy_of_each_class(answers):
    np.testing.assert_allclose(metrics.per_class_accuracy(*answers), accuracies(*answers))


def test_a_class_without_images_has_no_accuracy():
    accuracy = metrics.per_class_accuracy(np.eye(3), np.array([0, 0, 2]))
    np.testing.assert_array_equal(accuracy, [50, np.nan, 100])


def test_the_accuracy_of_a_group_is_the_mean_over_its_classes(answers):
    found, expected = metrics.group_accuracy(*answers, GROUPS), accuracies(*answers)
    plain = 100 * (answers[0].argmax(1) == answers[1]).mean()
    assert found == pytest.approx({"all": plain, "head": expected[[0, 2]].mean(), "tail": expected[[1, 3, 4]].mean()})


def test_on_a_balanced_test_set_it_is_the_papers_accuracy(answers):
    labels = np.arange(400) % 5
    hit, group = answers[0].argmax(1) == labels, GROUPS.index.numpy()[labels]
    expected = {"all": 100 * hit.mean(), "head": 100 * hit[group == 0].mean(), "tail": 100 * hit[group == 1].mean()}
    assert metrics.group_accuracy(answers[0], labels, GROUPS) == pytest.approx(expected)


UNEVEN = {  # true labels, predicted labels: of 5 classes with 300 to 4 training images
    "some right": ([0] * 80 + [1] * 100 + [2] * 18 + [3] * 96 + [4] * 27, None),
    "one class only": ([0] * 80 + [1] * 10 + [2] * 10 + [3] * 5 + [4] * 5, 0),
    "the rarest is never predicted": ([0] * 9 + [1] * 9 + [2] * 9 + [3] * 90 + [4] * 9, [0, 1, 2, 3, 3]),
    "perfect": ([0] * 50 + [1] * 3 + [2] * 7 + [3] * 90 + [4] * 2, [0, 1, 2, 3, 4]),
    "classes without images": ([0] * 5 + [3] * 2, [0, 1, 2, 2, 4]),
}


@pytest.mark.parametrize("case", UNEVEN)
def test_the_report_is_scikit_learns(case):
    labels, predicted = UNEVEN[case]
    labels = np.array(labels)
    if predicted is None:
        logits = draw(len(labels), 5).numpy() + np.eye(5)[labels]
    else:
        logits = np.eye(5)[np.broadcast_to(predicted, 5)[labels]]
    tested = np.unique(labels)
    expected = classification_report(labels, logits.argmax(1), labels=tested, output_dict=True, zero_division=0)
    rows = [expected[str(c)] for c in tested]
    found, counts = metrics.report(logits, labels, COUNTS), metrics.count(logits, labels)
    for name, row in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        np.testing.assert_allclose(getattr(counts, name)[tested], [100 * each[row] for each in rows])
    assert counts.images[tested].tolist() == [each["support"] for each in rows]
    assert found["all"] == pytest.approx(100 * accuracy_score(labels, logits.argmax(1)))
    assert found["balanced"] == pytest.approx(100 * expected["macro avg"]["recall"])
    assert found["macro_f1"] == pytest.approx(100 * expected["macro avg"]["f1-score"])
    recall = {c: row["recall"] for c, row in zip(tested, rows, strict=True)}
    thirds, shots = {"head": (0, 1), "medium": (2,), "tail": (3, 4)}, {"many_shot": (0,), "few_shot": (3, 4)}
    for name, classes in (thirds | shots).items():
        known = [100 * recall[c] for c in classes if c in recall]
        assert found[name] == (pytest.approx(np.mean(known)) if known else None)
    json.dumps(counts.rounded(), allow_nan=False)


def test_the_report_has_none_for_an_empty_group_of_shots(answers):
    report = metrics.report(*answers, np.array([300, 250, 90, 60, 40]))
    assert report["few_shot"] is None
    assert report["many_shot"] is not None


@pytest.mark.parametrize(
    ("case", "remarks"),
    [
        ("one class only", ["only 1 of 5 classes", "uneven (80 to 5 images per class)"]),
        ("the rarest is never predicted", ["only 4 of 5 classes", "uneven (90 to 9 images per class)"]),
        ("perfect", ["uneven (90 to 2 images per class)"]),
        ("classes without images", ["only 1 of 2 classes", "3 of 5 classes have no test images", "uneven (5 to 2"]),
    ],
)
def test_what_hides_in_an_accuracy_is_said(case, remarks):
    labels, predicted = UNEVEN[case]
    found = metrics.remarks(metrics.count(np.eye(5)[np.broadcast_to(predicted, 5)[labels]], np.array(labels)))
    assert len(found) == len(remarks) and all(part in text for part, text in zip(remarks, found, strict=True))


def test_a_network_that_answers_all_classes_of_an_even_test_set_gets_no_remark():
    assert metrics.remarks(metrics.count(np.eye(3), np.arange(3))) == []


TAKES_LABELS = {
    "report": lambda logits, labels: metrics.report(logits, labels, COUNTS),
    "group_accuracy": lambda logits, labels: metrics.group_accuracy(logits, labels, GROUPS),
    "confusion": metrics.confusion,
    "group_confusion": lambda logits, labels: metrics.group_confusion(logits, labels, GROUPS),
    "sorted_confusion": lambda logits, labels: metrics.sorted_confusion(logits, labels, COUNTS),
    "calibration_by_group": lambda logits, labels: metrics.calibration_by_group(logits, labels, GROUPS),
    "expected_calibration_error": metrics.expected_calibration_error,
    "bias_slope": lambda logits, labels: metrics.bias_slope(logits, labels, COUNTS),
    "accuracy_by_size": lambda logits, labels: metrics.accuracy_by_size(logits, labels, COUNTS),
}
NO_ANSWERS = {
    "NaN": (np.full((2, 5), np.nan), [0, 1], "2 of 2 images hold NaN, +inf or"),
    "+inf": (np.array([[np.inf, 0, 0, 0, 0], [1, 0, 0, 0, 0]]), [0, 1], "1 of 2 images"),
    "only masked classes": (np.array([[-np.inf] * 5, [1, 0, 0, 0, 0]]), [0, 1], "1 of 2 images"),
    "complex logits": (np.zeros((2, 5), dtype=complex), [0, 1], "logits complex128"),
    "no label": (np.zeros((2, 5)), [0, -1], "between -1 and 0"),
    "label too high": (np.zeros((2, 5)), [0, 5], "from 0 to 4"),
    "labels as numbers with a point": (np.zeros((2, 5)), [0.0, 1.0], "float64"),
    "one-hot labels": (np.zeros((2, 5)), np.eye(5, dtype=int)[:2], "labels of shape"),
    "fewer labels": (np.zeros((2, 5)), [0], "labels of shape"),
    "no images": (np.zeros((0, 5)), [], "at least one"),
}


@pytest.mark.parametrize("metric", sorted(set(TAKES_LABELS) - {"confusion", "expected_calibration_error"}))
@pytest.mark.parametrize("classes", [3, 6])
def test_counts_and_groups_of_other_classes_are_refused(metric, classes):
    logits, labels = np.eye(classes)[[0, 1, 2]], np.arange(3)
    with pytest.raises(ConfigError, match=rf"of 5 classes, but the logits of {classes}"):
        TAKES_LABELS[metric](logits, labels)


@pytest.mark.parametrize("temperature", [0, -1, np.nan])
def test_a_temperature_without_a_softmax_is_refused(answers, temperature):
    for metric in (metrics.calibration_by_group, metrics.bias_slope):
        with pytest.raises(ConfigError, match="temperature = "):
            metric(*answers, GROUPS if metric is metrics.calibration_by_group else COUNTS, temperature=temperature)


@pytest.mark.parametrize("metric", TAKES_LABELS)
@pytest.mark.parametrize("case", NO_ANSWERS)
def test_what_is_no_answer_is_refused(metric, case):
    logits, labels, problem = NO_ANSWERS[case]
    with pytest.raises(ConfigError, match=re.escape(problem)):
        TAKES_LABELS[metric](logits, np.array(labels))


@pytest.mark.parametrize(
    ("n_classes", "names"), [(1, ("all",)), (2, ("head", "tail")), (3, ("head", "medium", "tail"))]
)
def test_thirds_of_few_classes(n_classes, names):
    assert metrics.thirds(range(n_classes, 0, -1)).names == names


def test_confusion_is_scikit_learns(answers):
    logits, labels = answers
    expected = confusion_matrix(labels, logits.argmax(1), labels=range(5), normalize="true")
    np.testing.assert_allclose(metrics.confusion(logits, labels), expected)


def test_group_confusion_is_scikit_learns_on_group_labels(answers):
    logits, labels = answers
    index, weights = GROUPS.index.numpy(), 1 / np.bincount(labels)[labels]
    expected = confusion_matrix(index[labels], index[logits.argmax(1)], sample_weight=weights, normalize="true")
    np.testing.assert_allclose(metrics.group_confusion(logits, labels, GROUPS), expected)


def test_the_row_of_a_class_without_images_is_empty():
    assert metrics.confusion(np.eye(3), np.array([0, 0, 2]))[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softmax_is_the_plain_one(temperature):
    logits = draw(6, 5).numpy()
    np.testing.assert_allclose(metrics.softmax(logits, temperature), softmax(logits, temperature))


def test_softmax_takes_logits_of_any_size():
    np.testing.assert_array_equal(metrics.softmax(np.array([[1e4, -1e4]])), [[1, 0]])


def confident(confidences, n_classes=2):
    """Logits whose softmax gives class 0 these probabilities and shares the rest."""
    p = np.array(confidences)[:, None]
    return np.log(np.hstack([p, np.repeat((1 - p) / (n_classes - 1), n_classes - 1, axis=1)]))


@pytest.mark.parametrize(
    ("confidences", "labels", "expected"),
    [
        ([0.8] * 5, [0, 0, 0, 0, 1], 0.0),  # 80 % sure, right 4 times in 5
        ([0.9] * 4, [0, 0, 1, 1], 0.4),  # 90 % sure, right every second time
        ([0.9, 0.9, 0.6, 0.6], [0, 1, 0, 0], 0.4),  # two bins, off by 0.4 each, in opposite directions
        ([1 - 1e-12] * 3, [0, 0, 0], 0.0),
        ([1 - 1e-12] * 3, [1, 1, 1], 1.0),
    ],
)
def test_calibration_error_by_hand(confidences, labels, expected):
    error = metrics.expected_calibration_error(confident(confidences), np.array(labels))
    assert error == pytest.approx(expected, abs=1e-9)


def test_calibration_error_is_that_of_a_plain_loop(answers):
    logits, labels = answers
    p = softmax(logits)
    confidence, hit, error = p.max(1), p.argmax(1) == labels, 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert metrics.expected_calibration_error(logits, labels) == pytest.approx(error)


def test_reliability_leaves_empty_bins_empty():
    confidence, accuracy, share = metrics.reliability(confident([0.55, 0.95]), np.array([0, 1]), n_bins=10)
    assert np.flatnonzero(~np.isnan(confidence)).tolist() == [5, 9]
    assert accuracy[[5, 9]].tolist() == [1, 0]
    assert share.tolist() == [0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0.5]


def test_a_network_that_answers_with_the_prior_has_slope_one():
    logits = np.tile(np.log(COUNTS), (10, 1))
    assert metrics.bias_slope(logits, np.arange(10) % 5, COUNTS) == pytest.approx(1)


def test_a_network_that_favours_no_class_has_slope_zero():
    assert metrics.bias_slope(np.zeros((10, 5)), np.arange(10) % 5, COUNTS) == pytest.approx(0)


@pytest.mark.parametrize("images", [(10, 10, 10, 10, 10), (300, 90, 60, 15, 4), (4, 15, 60, 90, 300), (9, 0, 9, 9, 1)])
def test_a_perfect_classifier_has_no_bias_on_any_test_set(images):
    labels = np.repeat(np.arange(5), images)
    assert metrics.bias_slope(30 * np.eye(5)[labels], labels, COUNTS) == pytest.approx(0, abs=1e-9)


def test_the_bias_does_not_depend_on_the_numbers_of_test_images():
    each = np.log(COUNTS) + 3 * np.eye(5)  # the same answer on every image of a class
    slopes = [
        metrics.bias_slope(each[labels], labels, COUNTS)
        for labels in (np.arange(5), np.repeat(np.arange(5), (300, 90, 60, 15, 4)))
    ]
    assert slopes[0] == pytest.approx(slopes[1]) and 0 < slopes[0] < 1


def test_a_class_that_gets_no_probability_has_a_finite_slope():
    assert np.isfinite(metrics.bias_slope(np.array([[0.0, -np.inf]] * 2), np.array([0, 1]), [9, 1]))


def test_batch_mass_sums_the_full_batches():
    logits = draw(11, 5, dtype=torch.float32)
    mass = group_mass(logits, GROUPS, temperature=2.0).numpy()
    sums = batch_terms.batch_mass(logits, GROUPS, batch_size=4, temperature=2.0)
    np.testing.assert_allclose(sums, [mass[:4].sum(0), mass[4:8].sum(0)], rtol=1e-5)


def test_gradient_by_group_is_the_mean_length_of_softmax_minus_label():
    logits, labels = draw(40, 5), torch.arange(40) % 5
    lengths = np.linalg.norm(softmax(logits) - np.eye(5)[labels], axis=1)
    group = GROUPS.index.numpy()[labels]
    found = batch_terms.gradient_by_group(lambda z: F.cross_entropy(z, labels), logits, labels, GROUPS)
    assert found == pytest.approx({"head": lengths[group == 0].mean(), "tail": lengths[group == 1].mean()})


def test_calibration_by_group_is_that_of_each_groups_images(answers):
    logits, labels = answers[0], np.arange(400) % 5
    found = metrics.calibration_by_group(logits, labels, GROUPS, temperature=2.0, n_bins=15)
    for g, name in enumerate(GROUPS.names):
        of = GROUPS.index.numpy()[labels] == g
        p = softmax(logits[of], 2.0)
        assert found[name].confidence == pytest.approx(100 * p.max(1).mean())
        assert found[name].accuracy == pytest.approx(100 * (p.argmax(1) == labels[of]).mean())
        error = metrics.expected_calibration_error(logits[of] / 2, labels[of])
        assert found[name].error == pytest.approx(100 * error)
    assert list(found) == ["all", "head", "tail"]


def test_calibration_of_a_group_gives_each_class_the_same_weight(answers):
    found = metrics.calibration_by_group(*answers, GROUPS)
    means = metrics.group_accuracy(*answers, GROUPS)
    assert {name: part.accuracy for name, part in found.items()} == pytest.approx(means)


def test_calibration_leaves_out_a_group_without_images(answers):
    logits, labels = answers
    of_head = GROUPS.index.numpy()[labels] == 0
    assert list(metrics.calibration_by_group(logits[of_head], labels[of_head], GROUPS)) == ["all", "head"]


def test_equal_counts_have_no_slope(answers):
    assert np.isnan(metrics.bias_slope(*answers, [7] * 5))


def test_a_higher_temperature_flattens_the_slope():
    logits = np.tile(np.log(COUNTS), (10, 1))
    assert metrics.bias_slope(logits, np.arange(10) % 5, COUNTS, temperature=2.0) == pytest.approx(0.5)


def test_rebalanced_batches_are_those_of_the_loss(answers):
    logits, labels = answers
    found = batch_terms.rebalance_batches(logits, labels, GROUPS, batch_size=64, temperature=2.0)
    assert found.teacher.shape == (6, 2)
    for b in range(6):
        rows = slice(64 * b, 64 * (b + 1))
        p = softmax(logits[rows], 2.0)
        mass = np.stack([p[:, GROUPS.index.numpy() == g].sum(1) for g in range(2)], 1)
        np.testing.assert_allclose(found.teacher[b], mass.sum(0))
        np.testing.assert_allclose(found.factors[b], mass.sum(0).mean() / mass.sum(0))
        scaled = mass * found.factors[b]
        np.testing.assert_allclose(found.rebalanced[b], (scaled / scaled.sum(1, keepdims=True)).sum(0))
        np.testing.assert_allclose(found.rebalanced[b], rebalance(torch.tensor(mass)).sum(0))
        assert found.images[b].tolist() == np.bincount(GROUPS.index.numpy()[labels[rows]], minlength=2).tolist()


def test_what_is_shown_of_rebalancing_is_what_training_computes(answers, monkeypatch):
    logits, labels = answers
    log_mass = log_group_mass(torch.tensor(logits[:128]), GROUPS).double().view(2, 64, 2)
    together = log_rebalance(log_mass)
    for batch, alone in zip(together, log_mass, strict=True):
        torch.testing.assert_close(batch, log_rebalance(alone), rtol=0, atol=1e-14)
    monkeypatch.setattr(batch_terms, "log_rebalance", lambda log_mass: log_mass)
    found = batch_terms.rebalance_batches(logits, labels, GROUPS, batch_size=64)
    np.testing.assert_array_equal(found.rebalanced, found.teacher)


@pytest.mark.parametrize("batch_size", [0, 401])
def test_a_batch_has_an_image_and_no_more_than_there_are(answers, batch_size):
    with pytest.raises(ConfigError, match="between 1 and the number of images, 400"):
        batch_terms.batch_mass(answers[0], GROUPS, batch_size=batch_size)


def test_the_terms_of_the_divergence_by_hand(answers):
    teacher, student = answers[0][:8], draw(8, 5, seed=3).numpy()
    found = batch_terms.kl_terms(teacher, student, GROUPS, temperature=2.0)
    p, q, index = softmax(teacher, 2.0), softmax(student, 2.0), GROUPS.index.numpy()
    mass = np.stack([p[:, index == g].sum(1) for g in range(2)], 1)
    other = np.stack([q[:, index == g].sum(1) for g in range(2)], 1)
    np.testing.assert_allclose(found.mass, mass)
    np.testing.assert_allclose(found.cross, (mass * np.log(mass / other)).sum(1))
    for g in range(2):
        inner_p, inner_q = p[:, index == g] / mass[:, [g]], q[:, index == g] / other[:, [g]]
        np.testing.assert_allclose(found.within[:, g], (inner_p * np.log(inner_p / inner_q)).sum(1))
        # d KL(p~ || q~) / d z = (q~ - p~) / T
        np.testing.assert_allclose(found.within_gradient[:, g], np.linalg.norm(inner_q - inner_p, axis=1) / 2)
    slopes = np.stack([q[:, i] * (1 - mass[:, g] / other[:, g]) for i, g in enumerate(index)], 1) / 2
    np.testing.assert_allclose(found.cross_gradient, np.linalg.norm(slopes, axis=1))
    assert found.error < 1e-14


def test_weighted_terms_sum_to_the_divergence(answers):
    teacher, student = answers[0][:8], draw(8, 5, seed=3).numpy()
    terms = batch_terms.kl_terms(teacher, student, GROUPS)
    p, q = softmax(teacher), softmax(student)
    assert batch_terms.weigh(terms).values.sum() == pytest.approx((p * np.log(p / q)).sum(1).mean())
    by_beta = batch_terms.weigh(terms, beta=3.0, images=[2, 5])
    assert by_beta.weights.tolist() == [3.0, 3.0]
    np.testing.assert_allclose(by_beta.values[1:], 3 * terms.within[[2, 5]].mean(0))
    np.testing.assert_allclose(by_beta.pull[1:], 3 * terms.within_gradient[[2, 5]].mean(0))
