"""A teacher that was handed over is scored, and what is wrong with it is said, before it teaches."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import digits_config
from torch import nn

import ltkd
from ltkd.errors import TeacherWarning
from ltkd.models import Teacher
from ltkd.training.teacher_check import renamed_accuracy, sampled


@pytest.fixture(scope="module")
def digits():
    return ltkd.load_dataset("digits", imbalance_factor=10)


class NearestMean(nn.Module):
    """Answers the class whose mean training image is nearest: right on four digits in five, without training."""

    def __init__(self, data, order=None):
        super().__init__()
        images = data.train.images.flatten(1).double()
        mean, std = images.mean() / 255, images.std() / 255
        means = torch.stack([images[data.train.labels == c].mean(0) for c in range(10)]) / 255
        means = ((means - mean) / std).float()
        self.order = torch.arange(10) if order is None else torch.tensor(order)
        self.register_buffer("means", means)

    def forward(self, x):
        return (x.flatten(1) @ self.means.T - self.means.square().sum(1) / 2)[:, self.order] / 10


class Always(nn.Module):
    """Answers one class only."""

    def forward(self, x):
        return torch.eye(10)[3].expand(len(x), 10)


ROLLED = [*range(1, 10), 0]


def taught(teacher, digits, tmp_path):
    config = digits_config(method="kd", epochs=1, imbalance_factor=1)
    return ltkd.fit(config, teacher=teacher, dataset=digits, runs=tmp_path, device="cpu", progress=False)


@pytest.mark.parametrize(
    ("teacher", "remarks"),
    [
        (NearestMean, []),
        (lambda data: NearestMean(data, ROLLED), ["near chance", "in another order .* class_names="]),
        (lambda data: Always(), ["10.0 %, near chance (10.0 %)", "one class only"]),
    ],
    ids=["good", "rolled", "one class"],
)
def test_a_broken_teacher_is_told_before_it_teaches(teacher, remarks, digits, tmp_path):
    with pytest.warns(TeacherWarning) if remarks else _nothing() as told:
        result = taught(teacher(digits), digits, tmp_path).result
    scores = result["teachers"]["teacher"]
    texts = [str(each.message) for each in told or [] if each.category is TeacherWarning]
    assert len(texts) == len(scores["remarks"]) == len(remarks)
    for text, remark, part in zip(texts, scores["remarks"], remarks, strict=True):
        assert text == f"the teacher: {remark}" and text in result["remarks"]
        assert re.search(part if ".*" in part else re.escape(part), remark)
    assert scores["test"]["images"] == 500 and scores["train"]["images"] == len(digits.train.labels)


class _nothing:
    """Like pytest.warns, for no warning of a teacher: the filters of the project make others errors."""

    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


def test_its_scores_are_those_of_its_answers(digits, tmp_path):
    scores = taught(NearestMean(digits), digits, tmp_path).result["teachers"]["teacher"]["test"]
    assert 60 < scores["balanced"] < 100 and scores["balanced"] == pytest.approx(scores["all"])  # 50 images a class


def test_a_teacher_trained_here_has_the_scores_of_its_run(tmp_path):
    run = ltkd.fit(digits_config(method="kd", epochs=1, teacher_epochs=1), runs=tmp_path, device="cpu", progress=False)
    teacher = ltkd.Run.load(tmp_path / run.result["teacher_run"])
    scores = run.result["teachers"]["teacher"]
    assert scores["test"]["balanced"] == teacher.result["last"]["balanced"]
    assert scores["train"]["all"] == teacher.history.train_all.iloc[-1]


def test_a_group_that_its_teacher_never_saw_in_the_last_epoch_has_no_score(tmp_path, monkeypatch):
    """The history of a run gives NaN for it, which JSON has not."""
    config = digits_config(method="kd", epochs=1, teacher_epochs=1)
    teacher = ltkd.fit(config.for_teacher(), runs=tmp_path, device="cpu", progress=False)
    history = teacher.history.assign(train_tail=np.nan)
    monkeypatch.setattr(ltkd.Run, "history", property(lambda run: history))
    run = ltkd.fit(config, runs=tmp_path, device="cpu", progress=False)
    assert run.result["teachers"]["teacher"]["train"]["tail"] is None


@pytest.mark.parametrize("order", [list(range(10)), ROLLED], ids=["the data's order", "another order"])
def test_a_teacher_that_names_its_classes_teaches_the_same_in_any_order(order, digits, tmp_path):
    names = [digits.class_names[c] for c in order]
    run = taught(Teacher(NearestMean(digits, order), class_names=names), digits, tmp_path / "named")
    plain = taught(NearestMean(digits), digits, tmp_path / "plain")
    np.testing.assert_array_equal(run.logits, plain.logits)
    assert run.result["teachers"] == plain.result["teachers"]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["zero", *"123456789"], "the teacher lacks '0' and the data lack 'zero'"),
        ([*"012345678"], "the teacher lacks '9' and the data lack none"),
        ([*"0123456788"], "'8' is there twice"),
    ],
)
def test_names_of_other_classes_are_refused(names, problem, digits, tmp_path):
    with pytest.raises(ltkd.ConfigError, match=problem):
        taught(Teacher(NearestMean(digits), class_names=names), digits, tmp_path)


def test_each_output_of_a_teacher_needs_a_name(digits, tmp_path):
    with pytest.raises(ltkd.ConfigError, match=r"returns .*, 10.* but has 9 class_names"):
        taught(Teacher(NearestMean(digits), class_names=digits.class_names[:9]), without_nine(digits), tmp_path)
    for names in (3, "0123456789", None):
        with pytest.raises(ltkd.ConfigError, match="must be a list of names"):
            Teacher(NearestMean(digits), class_names=names)
    with pytest.raises(ltkd.ConfigError, match="must be a torch module"):
        Teacher("resnet8", class_names=digits.class_names)


def without_nine(data):
    halves = {half: getattr(data, half) for half in ("train", "test")}
    kept = {half: images.subset((images.labels < 9).nonzero()[:, 0]) for half, images in halves.items()}
    return replace(data, **kept, class_names=data.class_names[:9])


def test_the_sample_takes_the_classes_in_turn(digits):
    counts = sampled(digits.train, 35).labels.bincount(minlength=10)
    assert counts.sum() == 35 and set(counts.tolist()) == {3, 4}
    assert len(sampled(digits.train, 10**6).labels) == len(digits.train.labels)


def test_renamed_outputs_are_found_on_training_images_alone():
    labels = np.arange(200) % 10
    guesses = np.random.default_rng(0).integers(10, size=200)
    assert renamed_accuracy(((labels + 3) % 10, labels), ((labels + 3) % 10, labels)) == 100
    assert renamed_accuracy((labels, labels), (guesses, labels)) < 25  # nothing to gain from guesses
