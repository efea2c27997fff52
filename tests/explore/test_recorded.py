"""Recordings: their contents and shapes, and clear errors for missing ones."""

import numpy as np
import pytest

from ltkd import DataError, LtkdError, RunError, metrics
from ltkd.explore import recorded


@pytest.fixture(scope="module")
def recording():
    return recorded.recording("cifar100-lt")


def test_every_network_has_training_and_test_logits(recording):
    counts = recording.class_counts
    for name in recording.names:
        for (logits, labels), balanced in ((recording.train(name), False), (recording.test(name), True)):
            assert logits.shape == (len(labels), len(counts)) and logits.dtype == np.float32
            assert np.isfinite(logits).all()
            of_class = np.bincount(labels, minlength=len(counts))
            assert (len(set(of_class.tolist())) == 1) == balanced
    assert len(recording.train("teacher")[0]) == counts.sum()


def test_networks_share_the_first_images(recording):
    shorter, longer = recording.train("ltkd")[1], recording.train("teacher")[1]
    assert len(shorter) < len(longer) and np.array_equal(shorter, longer[: len(shorter)])


def test_recorded_logits_are_those_of_the_recorded_runs(recording):
    for name, run in recording.runs.items():
        logits, labels = recording.test(name)
        found = metrics.group_accuracy(logits, labels, recording.groups())
        for group in ("all", "head", "medium", "tail"):  # 3,000 of the 10,000 test images
            assert abs(found[group] - run.result["last"][group]) < 4


def test_the_recorded_teacher_is_biased_and_the_balanced_one_is_not(recording):
    slopes = {n: metrics.bias_slope(*recording.test(n), recording.class_counts) for n in recording.names[:2]}
    assert slopes["teacher"] > 0.5 > 0.1 > abs(slopes["balanced teacher"])


def test_the_weights_of_a_recorded_run_raise(recording):
    with pytest.raises(RunError, match="stored without its weights"):
        recording.runs["ltkd"].model()


def test_errors_suggest_the_nearest_name(recording):
    with pytest.raises(LtkdError, match="did you mean 'cifar100-lt'"):
        recorded.recording("cifar100")
    with pytest.raises(LtkdError, match="did you mean 'teacher'"):
        recording.test("teachr")


def test_the_error_without_a_checkout_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "project_folder", lambda: tmp_path)
    with pytest.raises(DataError, match="work in a checkout"):
        recorded.recording("cifar100-lt")
