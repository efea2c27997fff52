import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import draw, softmax
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from ltkd import ClassGroups, evaluation, group_mass

GROUPS = ClassGroups(("head", "tail"), torch.tensor([0, 1, 0, 1, 1]))
COUNTS = np.array([300, 90, 60, 15, 4])


@pytest.fixture
def answers():
    """Logits that are right somewhat more often than chance, and labels: unequally many a class."""
    labels = np.random.default_rng(0).choice(5, size=400, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    return draw(400, 5, scale=1.0).numpy() + np.eye(5)[labels], labels


def test_accuracy_of_each_class(answers):
    logits, labels = answers
    guesses = logits.argmax(1)
    expected = [100 * np.mean(guesses[labels == c] == c) for c in range(5)]
    np.testing.assert_allclose(evaluation.per_class_accuracy(logits, labels), expected)


def test_its_mean_is_the_balanced_accuracy(answers):
    logits, labels = answers
    expected = 100 * balanced_accuracy_score(labels, logits.argmax(1))
    assert evaluation.per_class_accuracy(logits, labels).mean() == pytest.approx(expected)


def test_a_class_without_images_has_no_accuracy():
    accuracy = evaluation.per_class_accuracy(np.eye(3), np.array([0, 0, 2]))
    np.testing.assert_array_equal(accuracy, [50, np.nan, 100])


def test_accuracy_of_each_group(answers):
    logits, labels = answers
    hit, group = logits.argmax(1) == labels, np.array([0, 1, 0, 1, 1])[labels]
    expected = {"all": 100 * hit.mean(), "head": 100 * hit[group == 0].mean(), "tail": 100 * hit[group == 1].mean()}
    assert evaluation.group_accuracy(logits, labels, GROUPS) == pytest.approx(expected)


def test_the_report_holds_thirds_and_shots(answers):
    logits, labels = answers
    hit = logits.argmax(1) == labels

    def accuracy(*classes):
        return 100 * hit[np.isin(labels, classes)].mean()

    assert evaluation.report(logits, labels, COUNTS) == pytest.approx(
        {
            "all": 100 * hit.mean(),
            "head": accuracy(0, 1),
            "medium": accuracy(2),
            "tail": accuracy(3, 4),
            "many_shot": accuracy(0),
            "medium_shot": accuracy(1, 2),
            "few_shot": accuracy(3, 4),
        }
    )


def test_the_report_has_none_for_an_empty_group_of_shots(answers):
    logits, labels = answers
    report = evaluation.report(logits, labels, np.array([300, 250, 90, 60, 40]))
    assert report["few_shot"] is None
    assert report["many_shot"] is not None


@pytest.mark.parametrize(
    ("n_classes", "names"), [(1, ("all",)), (2, ("head", "tail")), (3, ("head", "medium", "tail"))]
)
def test_thirds_of_few_classes(n_classes, names):
    assert evaluation.thirds(range(n_classes, 0, -1)).names == names


def test_confusion_is_scikit_learns(answers):
    logits, labels = answers
    expected = confusion_matrix(labels, logits.argmax(1), labels=range(5), normalize="true")
    np.testing.assert_allclose(evaluation.confusion(logits, labels), expected)


def test_group_confusion_is_scikit_learns_on_group_labels(answers):
    logits, labels = answers
    index = GROUPS.index.numpy()
    expected = confusion_matrix(index[labels], index[logits.argmax(1)], normalize="true")
    np.testing.assert_allclose(evaluation.group_confusion(logits, labels, GROUPS), expected)


def test_the_row_of_a_class_without_images_is_empty():
    assert evaluation.confusion(np.eye(3), np.array([0, 0, 2]))[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softmax_is_the_plain_one(temperature):
    logits = draw(6, 5).numpy()
    np.testing.assert_allclose(evaluation.softmax(logits, temperature), softmax(logits, temperature))


def test_softmax_takes_logits_of_any_size():
    np.testing.assert_array_equal(evaluation.softmax(np.array([[1e4, -1e4]])), [[1, 0]])


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
    error = evaluation.expected_calibration_error(confident(confidences), np.array(labels))
    assert error == pytest.approx(expected, abs=1e-9)


def test_calibration_error_is_that_of_a_plain_loop(answers):
    logits, labels = answers
    p = softmax(logits)
    confidence, hit, error = p.max(1), p.argmax(1) == labels, 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert evaluation.expected_calibration_error(logits, labels) == pytest.approx(error)


def test_reliability_leaves_empty_bins_empty():
    confidence, accuracy, share = evaluation.reliability(confident([0.55, 0.95]), np.array([0, 1]), n_bins=10)
    assert np.flatnonzero(~np.isnan(confidence)).tolist() == [5, 9]
    assert accuracy[[5, 9]].tolist() == [1, 0]
    assert share.tolist() == [0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0.5]


def test_a_network_that_answers_with_the_prior_has_slope_one():
    logits = np.tile(np.log(COUNTS), (10, 1))
    assert evaluation.bias_slope(logits, COUNTS) == pytest.approx(1)


def test_a_network_that_favours_no_class_has_slope_zero():
    assert evaluation.bias_slope(np.zeros((10, 5)), COUNTS) == pytest.approx(0)


def test_batch_mass_sums_the_full_batches():
    logits = draw(11, 5, dtype=torch.float32)
    mass = group_mass(logits, GROUPS, temperature=2.0).numpy()
    sums = evaluation.batch_mass(logits, GROUPS, batch_size=4, temperature=2.0)
    np.testing.assert_allclose(sums, [mass[:4].sum(0), mass[4:8].sum(0)], rtol=1e-5)


def test_gradient_by_group_is_the_mean_length_of_softmax_minus_label():
    logits, labels = draw(40, 5), torch.arange(40) % 5
    lengths = np.linalg.norm(softmax(logits) - np.eye(5)[labels], axis=1)
    group = GROUPS.index.numpy()[labels]
    found = evaluation.gradient_by_group(lambda z: F.cross_entropy(z, labels), logits, labels, GROUPS)
    assert found == pytest.approx({"head": lengths[group == 0].mean(), "tail": lengths[group == 1].mean()})
