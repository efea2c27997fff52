"""SavedLogits: one form for all logits, and clear errors for arrays that do not fit together."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import digits_config

from ltkd import ConfigError, DataError, fit
from ltkd.datasets import ImageFiles
from ltkd.explore.logits import SavedLogits
from ltkd.explore.widgets import teacher_bias
from ltkd.training.fit import load_dataset

COUNTS = np.array([30, 10, 5])


def pair(n, seed=0, n_classes=3):
    return np.random.default_rng(seed).normal(size=(n, n_classes)), np.arange(n) % n_classes


def test_arrays_and_tensors_become_float32_arrays():
    logits, labels = pair(8)
    saved = SavedLogits({"a": {"train": (torch.tensor(logits), torch.tensor(labels))}}, torch.tensor(COUNTS))
    assert saved.train("a")[0].dtype == np.float32 and saved.train("a")[1].dtype == np.int64
    np.testing.assert_allclose(saved.train("a")[0], logits, rtol=1e-6)
    assert saved.class_names == ("0", "1", "2") and saved.splits("a") == ("train",)


def test_a_pair_uses_the_first_images_that_both_networks_share():
    saved = SavedLogits({"a": {"train": pair(8)}, "b": {"train": pair(5, seed=1)}}, COUNTS)
    teacher, student, labels = saved.pair("train", "a", "b")
    assert len(teacher) == len(student) == len(labels) == 5
    np.testing.assert_array_equal(teacher, saved.train("a")[0][:5])


def test_logits_of_runs_are_on_shuffled_images(tmp_path):
    config = digits_config(method="ce")
    run = fit(config, runs=tmp_path, device="cpu", progress=False)
    saved = SavedLogits.of_runs({"student": run}, load_dataset(config))
    logits, labels = saved.test("student")
    assert np.sort(labels).tolist() == np.sort(run.labels).tolist() and (labels != run.labels).any()
    assert (logits.argmax(1) == labels).mean() == pytest.approx(run.result["last"]["all"] / 100)
    assert len(saved.train("student")[1]) == run.class_counts.sum()
    assert saved.runs == {"student": run}


BAD = {
    "no networks": ({}, COUNTS),
    "must be \\(images, 3\\)": ({"a": {"train": pair(5, n_classes=4)}}, COUNTS),
    "labels must be": ({"a": {"train": (pair(5)[0], np.arange(5))}}, COUNTS),
    "at least 1": ({"a": {"train": pair(5)}}, np.array([5, 0, 1])),
    "not a number": ({"a": {"test": (np.full((3, 3), np.nan), np.arange(3))}}, COUNTS),
}


@pytest.mark.parametrize("message", BAD)
def test_invalid_logits_raise(message):
    with pytest.raises((ConfigError, DataError), match=message):
        SavedLogits(*BAD[message])


def test_a_pair_on_different_images_raises():
    logits, labels = pair(6)
    saved = SavedLogits({"a": {"train": (logits, labels)}, "b": {"train": (logits, labels[::-1])}}, COUNTS)
    with pytest.raises(DataError, match="same images in the same order"):
        saved.pair("train", "a", "b")


def test_errors_name_the_known_networks_and_splits():
    saved = SavedLogits({"teacher": {"train": pair(6)}}, COUNTS)
    with pytest.raises(ConfigError, match="did you mean 'teacher'"):
        saved.train("teahcer")
    with pytest.raises(ConfigError, match="known are train"):
        saved.test("teacher")


def test_other_objects_are_not_saved_logits():
    with pytest.raises(ConfigError, match="a dict is not SavedLogits: give recorded"):
        teacher_bias({"teacher": 1})


def test_images_on_disk_are_refused():
    files = ImageFiles(["a.png"], [0], image_size=32)
    with pytest.raises(DataError, match="images in memory"):
        SavedLogits.of_runs({}, SimpleNamespace(train=files, test=files))
