import copy
import errno
import os
import random
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import about, digits_config, other_result, random_dataset
from PIL import Image
from prepared import prepared
from sklearn.metrics import classification_report
from torch import nn

from ltkd import ConfigError, DataError, Interrupted, ResultWarning, Run, RunConfig, RunError, fit
from ltkd.datasets import load
from ltkd.datasets.normalization import Normalizer
from ltkd.reproduce.sweep import sweep
from ltkd.runs import checkpoint_bytes
from ltkd.training import fit as training
from ltkd.training.network_check import check_network

FILES = ("logits.npz", "student.safetensors")


def fit_quietly(config, runs, **objects):
    return fit(config, runs=runs, device="cpu", progress=False, **objects)


def contents(run):
    return [(run.folder / name).read_bytes() for name in FILES]


def history_but_for_time(run):
    return plain(run.history.drop(columns="seconds").to_dict("list"))


def plain(value):
    """Nested arrays as nested lists, which can be compared."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | np.ndarray) else value


def stop_after(epoch, method):
    """A callback that presses Ctrl-C after so many epochs of that method's run."""

    def callback(config, history):
        if config.method == method and len(history) == epoch:
            raise KeyboardInterrupt

    return callback


@pytest.fixture
def checkpoint_every_epoch(monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)


@pytest.fixture
def no_training(monkeypatch):
    """What trains from here on fails."""

    def refuse(*_args):
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "train_epoch", refuse)


# --- learning, and the same every time ---


def test_six_epochs_on_balanced_digits_beat_chance_by_far(tmp_path):
    run = fit_quietly(digits_config(method="ce", imbalance_factor=1, epochs=6), tmp_path)
    assert run.result["last"]["all"] > 80  # chance: 10


def test_two_runs_of_one_config_are_equal_bit_for_bit(tmp_path):
    """With a teacher each; every method on one teacher is in test_every_method."""
    first, second = (fit_quietly(digits_config(method="ltkd"), tmp_path / name) for name in "ab")
    assert contents(first) == contents(second)
    np.testing.assert_equal(history_but_for_time(first), history_but_for_time(second))


def test_another_seed_gives_other_logits(tmp_path):
    first, second = (fit_quietly(digits_config(method="ce", epochs=1, seed=seed), tmp_path) for seed in (0, 1))
    assert not np.array_equal(first.logits, second.logits)


def test_fit_leaves_the_global_generators_alone(tmp_path):
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state(legacy=False), random.getstate()

    before = states()
    fit_quietly(digits_config(method="ltkd", epochs=1), tmp_path)
    np.testing.assert_equal(states(), before)


def test_methods_see_the_same_images_in_the_same_order(tmp_path):
    """Then what the teacher says of each batch is the same."""
    first, second = (fit_quietly(digits_config(method=m, temperature=2.0), tmp_path) for m in ("bkd", "kd"))
    assert plain(first.history.teacher_mass.tolist()) == plain(second.history.teacher_mass.tolist())


# --- runs that are found ---


def test_a_finished_run_is_loaded_and_not_trained_again(store, no_training):
    config = digits_config(method="ltkd")
    assert fit_quietly(config, store).result == Run.open(config, store).result


def test_students_of_one_seed_share_a_teacher_trained_first(store):
    names = sorted(folder.name for folder in store.iterdir())
    assert len([name for name in names if "-ce-s0-" in name]) == 1
    teacher = Run.load(store / next(name for name in names if "-ce-s0-" in name))
    assert teacher.finished
    assert teacher.config == digits_config(method="ltkd").for_teacher() == digits_config(method="kd").for_teacher()


def test_the_teacher_of_a_student_of_some_classes_is_the_run_that_the_student_builds_on(tmp_path):
    config = digits_config(method="kd", classes=(7, 2, 5), epochs=1)
    fit_quietly(config, tmp_path)
    assert {folder.name for folder in tmp_path.iterdir()} == {config.name, config.builds_on()["teacher"].name}


def test_a_teacher_that_is_there_is_used(tmp_path):
    config = digits_config(method="kd", epochs=1)
    teacher = fit_quietly(config.for_teacher(), tmp_path)
    written = (teacher.folder / "result.json").stat().st_mtime_ns
    fit_quietly(config, tmp_path)
    assert (teacher.folder / "result.json").stat().st_mtime_ns == written
    assert len(list(tmp_path.iterdir())) == 2


def test_the_teachers_epochs_may_differ(tmp_path):
    fit_quietly(digits_config(method="kd", epochs=1, teacher_epochs=2), tmp_path)
    assert sorted(Run.load(folder).result["last"]["epoch"] for folder in tmp_path.iterdir()) == [1, 2]


# --- runs that were stopped ---


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, checkpoint_every_epoch):
    config = digits_config(method="ltkd", epochs=3, teacher_epochs=1)
    whole = fit_quietly(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit_quietly(config, tmp_path / "stopped", callbacks=[stop_after(2, "ltkd")])
    epochs = []
    resumed = fit_quietly(config, tmp_path / "stopped", callbacks=[lambda _, history: epochs.append(len(history))])
    assert epochs == [3]
    assert not (resumed.folder / "checkpoint.pt").exists()
    assert contents(resumed) == contents(whole)
    np.testing.assert_equal(history_but_for_time(resumed), history_but_for_time(whole))


def test_the_message_says_what_is_stored_and_how_to_go_on(tmp_path, checkpoint_every_epoch):
    config = digits_config(method="ce", epochs=4)
    with pytest.raises(Interrupted) as stopped:
        fit_quietly(config, tmp_path, callbacks=[stop_after(3, "ce")])
    for part in ("after epoch 3 is stored", str(tmp_path / config.name), "to go on"):
        assert part in str(stopped.value)


def test_the_message_says_where_nothing_is_stored_yet(tmp_path, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_epoch", interrupt)
    with pytest.raises(Interrupted, match="no epoch was stored yet"):
        fit_quietly(digits_config(method="ce"), tmp_path)


def test_ctrl_c_stores_the_last_whole_epoch_however_short_the_run(tmp_path):
    config = digits_config(method="ce", epochs=4)
    with pytest.raises(Interrupted):
        fit_quietly(config, tmp_path, callbacks=[stop_after(2, "ce")])
    assert len(Run.open(config, tmp_path).load_checkpoint()["history"]) == 2


def test_a_result_tells_the_images_that_were_kept(tmp_path):
    def kept(name, **settings):
        config = digits_config(method="ce", epochs=1, **settings)
        return fit_quietly(config, tmp_path / name).result["train_fingerprint"]

    seed = kept("a")
    assert seed == kept("b", held_out=0.1) == kept("c", seed=1, subset_seed=0)
    assert seed != kept("d", seed=1)


def test_grey_images_and_a_normalization_of_colours_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match="of 3 channels, but these images have 1"):
        fit_quietly(digits_config(method="ce", normalization="cifar10"), tmp_path)


def test_layers_that_draw_for_themselves_draw_the_same_again(tmp_path, dataset):
    student = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))
    runs = [
        fit_quietly(noise_config(method="ce"), tmp_path / part, dataset=dataset, student=student) for part in ("a", "b")
    ]
    assert (runs[0].logits == runs[1].logits).all()


def _swapped(first, second):
    first.rename(first.parent / "aside")
    second.rename(first)
    (first.parent / "aside").rename(second)


CHANGES = {  # what happens to a folder: is it another data set then?
    "an image less": (lambda pets: (pets / "train/cat/3.png").unlink(), True),
    "two images swapped": (lambda pets: _swapped(pets / "train/cat/0.png", pets / "train/dog/0.png"), True),
    "two test images swapped": (lambda pets: _swapped(pets / "test/cat/0.png", pets / "test/dog/0.png"), True),
    "a class renamed": (
        lambda pets: [(pets / half / "cat").rename(pets / half / "ant") for half in pets.iterdir()],
        True,
    ),
    "a README": (lambda pets: (pets / "README.txt").write_text("cats and dogs"), False),
    "a note in a class": (lambda pets: (pets / "train/cat/note.txt").write_text("a good cat"), False),
    "a new time": (lambda pets: os.utime(pets / "train/cat/0.png", (1, 1)), False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_is_another_data_set_if_an_image_that_it_uses_is_another(tmp_path, monkeypatch, change):
    for s, split in enumerate(("train", "test")):
        for c, name in enumerate(("cat", "dog")):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(4):
                shade = Image.new("RGB", (8, 8), (40 * i, 90 * s, 90 * c))
                shade.save(tmp_path / "pets" / split / name / f"{i}.png", "BMP")  # all files of one size
    config = RunConfig.make(dataset=str(tmp_path / "pets"), method="ce", student="resnet8x0.5", epochs=1)
    first = fit_quietly(config, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    relative = RunConfig.make(dataset="pets/", method="ce", student="resnet8x0.5", epochs=1)
    assert fit_quietly(relative, tmp_path / "runs").folder == first.folder
    happens, another = CHANGES[change]
    happens(tmp_path / "pets")
    assert (fit_quietly(config, tmp_path / "runs").folder != first.folder) == another


@pytest.mark.parametrize("objects", [{"teacher": "resnet8"}, {"dataset": "digits"}, {"student": "resnet8"}])
def test_a_name_where_an_object_belongs_is_answered_with_where_it_goes(tmp_path, objects):
    with pytest.raises(ConfigError, match=r"RunConfig\.make"):
        fit_quietly(digits_config(method="kd"), tmp_path, **objects)


def test_the_message_never_names_an_epoch_beyond_the_last(tmp_path):
    with pytest.raises(Interrupted) as stopped:
        fit_quietly(digits_config(method="ce", epochs=2), tmp_path, callbacks=[stop_after(2, "ce")])
    assert "3 of 2" not in str(stopped.value)


@pytest.mark.parametrize(("stops_at", "stored"), [(1, "no epoch was stored yet"), (3, "after epoch 2 is stored")])
def test_ctrl_c_between_an_epoch_and_its_state_never_claims_that_state(tmp_path, monkeypatch, stops_at, stored):
    config, written = digits_config(method="ce", epochs=4), []

    def interrupted(state):
        written.append(checkpoint_bytes(state))
        if len(written) == stops_at:
            raise KeyboardInterrupt
        return written[-1]

    monkeypatch.setattr(training, "checkpoint_bytes", interrupted)
    with pytest.raises(Interrupted, match=f"stopped in epoch {stops_at} of 4; .*{stored}"):
        fit_quietly(config, tmp_path)
    state = Run.open(config, tmp_path).load_checkpoint()
    assert len(state["history"] if state else []) == stops_at - 1


def test_ctrl_c_while_the_teacher_trains_keeps_the_teacher(tmp_path, checkpoint_every_epoch):
    config = digits_config(method="ltkd", epochs=1, teacher_epochs=3)
    whole = fit_quietly(config, tmp_path / "whole")
    with pytest.raises(Interrupted, match="-ce-"):
        fit_quietly(config, tmp_path / "stopped", callbacks=[stop_after(2, "ce")])
    assert contents(fit_quietly(config, tmp_path / "stopped")) == contents(whole)


def test_a_damaged_checkpoint_says_what_to_remove(tmp_path, checkpoint_every_epoch):
    config = digits_config(method="ce", epochs=3)
    with pytest.raises(Interrupted):
        fit_quietly(config, tmp_path, callbacks=[stop_after(2, "ce")])
    checkpoint = tmp_path / config.name / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"checkpoint\.pt is damaged.*remove it"):
        fit_quietly(config, tmp_path)
    checkpoint.unlink()
    assert fit_quietly(config, tmp_path).finished


# --- trained anew ---


def trained_epochs(config, runs, **how):
    """What `fit` returns, and the (method, epoch) that it trained."""
    epochs = []
    run = fit_quietly(config, runs, callbacks=[lambda c, history: epochs.append((c.method, len(history)))], **how)
    return run, epochs


def marked(run):
    """A finished run with another number in its result, as if other code had trained it."""
    other_result(run.folder, last=lambda last: last | {"all": 99.99})
    return contents(run)


def test_a_finished_run_is_trained_anew_on_demand_and_its_teacher_is_not(tmp_path):
    config = digits_config(method="kd")
    before = marked(fit_quietly(config, tmp_path))
    run, epochs = trained_epochs(config, tmp_path, retrain=True)
    assert epochs == [("kd", 1), ("kd", 2)]
    assert run.result["last"]["all"] != 99.99
    assert contents(run) == before
    assert not (run.folder / "checkpoint.pt").exists()


def test_a_retraining_that_is_stopped_leaves_the_old_result_and_goes_on(tmp_path, checkpoint_every_epoch):
    config = digits_config(method="ce", epochs=4)
    before = marked(fit_quietly(config, tmp_path))
    with pytest.raises(Interrupted):
        fit_quietly(config, tmp_path, retrain=True, callbacks=[stop_after(2, "ce")])
    old, epochs = trained_epochs(config, tmp_path)
    assert (old.result["last"]["all"], epochs) == (99.99, [])
    assert contents(old) == before
    new, epochs = trained_epochs(config, tmp_path, retrain=True)
    assert epochs == [("ce", 3), ("ce", 4)]
    assert new.result["last"]["all"] != 99.99
    assert contents(new) == before
    assert len(trained_epochs(config, tmp_path, retrain=True)[1]) == 4


def test_a_state_older_than_the_result_is_no_part_of_a_retraining(tmp_path, checkpoint_every_epoch):
    """A kill right after the result was written leaves one."""
    config = digits_config(method="ce", epochs=3)
    with pytest.raises(Interrupted):
        fit_quietly(config, tmp_path, callbacks=[stop_after(2, "ce")])
    checkpoint = tmp_path / config.name / "checkpoint.pt"
    state = checkpoint.read_bytes()
    fit_quietly(config, tmp_path)
    checkpoint.write_bytes(state)
    os.utime(checkpoint, ns=(0, 0))
    assert len(trained_epochs(config, tmp_path, retrain=True)[1]) == 3


@pytest.mark.parametrize("broken", [*FILES, "history.parquet", "result.json"])
def test_a_retraining_that_is_killed_while_it_is_stored_mixes_nothing(tmp_path, monkeypatch, broken):
    config = digits_config(method="ce")
    before = marked(fit_quietly(config, tmp_path))
    real = os.replace

    def killed(source, target):
        if target.name == broken:
            raise SystemExit
        real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        fit_quietly(config, tmp_path, retrain=True)
    monkeypatch.undo()
    assert not Run.open(config, tmp_path).finished
    run = fit_quietly(config, tmp_path)
    assert run.result["last"]["all"] != 99.99
    assert contents(run) == before


# --- a full disk ---


@pytest.mark.parametrize("function", ["os.fsync", "os.replace"])
def test_a_full_disk_leaves_what_was_stored_and_the_run_goes_on_later(
    tmp_path, monkeypatch, checkpoint_every_epoch, function
):
    config = digits_config(method="ce", epochs=4)
    whole = fit_quietly(config, tmp_path / "whole")
    real = getattr(os, function.removeprefix("os."))

    def full(*args):
        if len(list((tmp_path / "full").rglob("checkpoint.pt"))) and left.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    left = [True, False]  # the second write after the first checkpoint finds the disk full
    monkeypatch.setattr(function, full)
    with pytest.raises(RunError, match="No space left on device"):
        fit_quietly(config, tmp_path / "full")
    assert {f.name for f in (tmp_path / "full" / config.name).iterdir()} == {".claim", "config.json", "checkpoint.pt"}
    monkeypatch.setattr(function, real)
    epochs = []
    resumed = fit_quietly(config, tmp_path / "full", callbacks=[lambda _, history: epochs.append(len(history))])
    assert epochs == [3, 4]
    assert contents(resumed) == contents(whole)


@pytest.mark.parametrize("broken", [*FILES, "history.parquet", "result.json"])
def test_a_disk_that_fills_while_a_retraining_is_stored_leaves_the_old_result(tmp_path, monkeypatch, broken):
    config = digits_config(method="ce")
    before = marked(fit_quietly(config, tmp_path))
    real = open

    def full(file, *args, **how):
        if broken in str(file) and "xb" in args:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, *args, **how)

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(RunError, match="No space left on device"):
        fit_quietly(config, tmp_path, retrain=True)
    monkeypatch.undo()
    old = Run.open(config, tmp_path)
    assert old.result["last"]["all"] == 99.99
    assert contents(old) == before


# --- objects of one's own ---


def small_network(n_classes=3, inputs=64, seed=0):
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, n_classes)
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return network


def noise_config(**settings):
    return digits_config(**{"epochs": 1, "batch_size": 8, "imbalance_factor": 1, **settings})


def test_a_network_of_ones_own_is_trained_and_not_touched(tmp_path, dataset):
    student = small_network()
    before = copy.deepcopy(student.state_dict())
    run = fit_quietly(noise_config(method="ce"), tmp_path, student=student, dataset=dataset)
    assert all(torch.equal(before[k], v) for k, v in student.state_dict().items())
    assert student.training
    assert all(p.grad is None for p in student.parameters())
    trained = run.model(small_network())
    assert not torch.equal(trained[1].weight, before["1.weight"])


def test_a_teacher_of_ones_own_is_used_and_not_touched(tmp_path, dataset):
    teacher = small_network()
    before = copy.deepcopy(teacher.state_dict())
    run = fit_quietly(noise_config(method="kd"), tmp_path, teacher=teacher, dataset=dataset)
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    assert teacher.training
    assert all(p.requires_grad for p in teacher.parameters())
    assert [folder.name for folder in tmp_path.iterdir()] == [run.config.name]  # no teacher was trained


def test_objects_of_ones_own_are_named_in_the_config(tmp_path, dataset):
    objects = {"teacher": small_network(seed=1), "student": small_network(seed=2), "dataset": dataset}
    config = fit_quietly(noise_config(method="kd"), tmp_path, **objects).config
    assert config.teacher.startswith("custom:Sequential-")
    assert config.student.startswith("custom:Sequential-")
    assert config.dataset.startswith("custom:noise-")
    assert config.teacher != config.student


def test_the_same_objects_find_their_run(tmp_path, dataset, monkeypatch):
    def go():
        return fit_quietly(noise_config(method="ce"), tmp_path, student=small_network(), dataset=random_dataset())

    first = go()
    monkeypatch.setattr(training, "train_epoch", None)
    assert go().folder == first.folder


@pytest.mark.parametrize(
    "change",
    [
        {"student": small_network(seed=9)},
        {"teacher": small_network(seed=9)},
        {"dataset": random_dataset(seed=9)},
        {"dataset": random_dataset(test_seed=9)},
        {"dataset": replace(random_dataset(), whole=random_dataset(seed=9).train)},
    ],
    ids=["student", "teacher", "training images", "test images", "images that it is normalised by"],
)
def test_other_objects_are_another_run(tmp_path, dataset, change):
    objects = {"teacher": small_network(), "student": small_network(), "dataset": dataset}
    first, second = (fit_quietly(noise_config(method="kd"), tmp_path, **o) for o in (objects, objects | change))
    assert first.folder != second.folder


def test_a_data_set_of_ones_own_trains_the_teacher_too(tmp_path, dataset):
    fit_quietly(noise_config(method="ltkd"), tmp_path, dataset=dataset)
    assert len({Run.load(folder).config.dataset for folder in tmp_path.iterdir()}) == 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "setting",
    [{"imbalance_factor": 50}, {"profile": "step"}, {"profile": (5, 4, 3)}, {"image_size": 16}, {"subset_seed": 3}],
    ids=str,
)
def test_a_data_set_of_ones_own_is_not_cut_and_whoever_asks_for_it_is_told(tmp_path, dataset, setting):
    config = RunConfig.make(method="ce", **setting)
    with pytest.raises(ConfigError, match=rf"{next(iter(setting))} = .* has no effect on dataset=.*datasets\.load"):
        fit_quietly(config, tmp_path, dataset=dataset)


def test_a_stored_run_on_a_data_set_of_ones_own_asks_for_it(tmp_path, dataset):
    config = fit_quietly(noise_config(method="ce"), tmp_path / "a", dataset=dataset).config
    with pytest.raises(ConfigError, match="dataset="):
        fit_quietly(config, tmp_path / "b")


class AnswersWithTuple(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :3], None


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize(
    "network",
    [small_network(n_classes=4), small_network(inputs=65), AnswersWithTuple()],
    ids=["wrong number of classes", "wrong input", "no tensor"],
)
def test_a_network_that_does_not_fit_the_data_is_named(tmp_path, dataset, role, network):
    with pytest.raises(ConfigError, match=f"{role} custom:{type(network).__name__}"):
        fit_quietly(
            noise_config(method="kd"), tmp_path, **({"teacher": small_network()} | {role: network}), dataset=dataset
        )


class Own(nn.Module):
    """Its answer is given by a function of its logits, itself, and the images."""

    def __init__(self, answer):
        super().__init__()
        self.body, self.answer = small_network(), answer

    def forward(self, images):
        return self.answer(self.body(images), self, images)


ODD_ANSWERS = {  # {name: (answer, message)}
    "tuple": (lambda z, self, x: (z, z) if self.training else z, "in training mode. returns tuple"),
    "dict": (lambda z, self, x: {"logits": z} if self.training else z, "in training mode. returns dict"),
    "object": (lambda z, self, x: SimpleNamespace(z=z) if self.training else z, "in training mode. returns Simple"),
    "two heads": (lambda z, self, x: torch.cat([z, z], 1) if self.training else z, r"in training mode. returns \(2, 6"),
    "map": (lambda z, self, x: z[..., None], r"in evaluation mode. returns \(2, 3, 1\)"),
    "no batch": (lambda z, self, x: z.squeeze(), r"in evaluation mode. returns \(3,\) for 1 images"),
    "error": (lambda z, self, x: z @ z if self.training else z, "in training mode. does not take images of shape"),
    "nan": (lambda z, self, x: z.log(), "returned NaN, inf or only -inf for 2 of 2 images"),
    "dropout": (lambda z, self, x: F.dropout(z, training=True), "other logits for an image alone"),
    "batch norm": (lambda z, self, x: z - z.mean(0) if len(z) > 1 else z, "other logits for an image alone"),
}


@pytest.mark.parametrize(("answer", "message"), ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_a_student_that_would_fail_in_training_or_mislead_is_refused_before(answer, message, tmp_path, dataset):
    with pytest.raises((ConfigError, RunError), match=rf"the student custom:Own-\w+ .*{message}") as error:
        fit_quietly(noise_config(method="ce"), tmp_path, student=Own(answer), dataset=dataset)
    assert "\n" not in str(error.value)
    assert [*tmp_path.iterdir()] == []


def test_the_check_of_a_network_changes_nothing(tmp_path, dataset):
    """Neither the statistics of BatchNorm nor the random numbers that follow."""
    layers = [nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 3)]
    network, images = nn.Sequential(*layers), torch.randn(2, 1, 8, 8)
    state, draws = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    check_network(network, "student own", images, 3, trained=True)
    assert torch.equal(torch.get_rng_state(), draws)
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def locked():
    network = small_network()
    network.lock = threading.Lock()
    return network


def with_a_computed_tensor():
    network = small_network()
    network.last = network[1].weight * 2
    return network


NO_MODULES = {
    "a class": (lambda: nn.Linear, "an object and not its class"),
    "TorchScript": (lambda: torch.jit.script(small_network()), "is a TorchScript module; pass the module"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "has no shape yet; call the student on a batch"),
    "meta": (lambda: small_network().to("meta"), "has no values"),
    "a lock": (locked, "cannot be copied"),
    "a computed tensor": (with_a_computed_tensor, "cannot be copied"),
}


@pytest.mark.parametrize("kind", NO_MODULES)
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_module_that_cannot_be_trained_is_refused(tmp_path, dataset, kind):
    make, message = NO_MODULES[kind]
    with pytest.raises(ConfigError, match=message):
        fit_quietly(noise_config(method="ce"), tmp_path, student=make(), dataset=dataset)
    assert [*tmp_path.iterdir()] == []


def test_weights_of_another_network_are_told_in_one_line(tmp_path, dataset):
    run = fit_quietly(noise_config(method="ce"), tmp_path, student=small_network(), dataset=dataset)
    with pytest.raises(RunError, match="do not fit this Sequential; pass one like that of the run"):
        run.model(small_network(4))


WRAPPERS = {
    "torch.compile": torch.compile,
    "DataParallel": nn.DataParallel,
    "both": lambda network: torch.compile(nn.DataParallel(network)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_network_is_the_same_network(wrap, tmp_path, dataset):
    config, teacher, student = noise_config(method="kd"), small_network(), small_network()
    plain = fit_quietly(config, tmp_path / "a", teacher=teacher, student=student, dataset=dataset)
    run = fit_quietly(config, tmp_path / "b", teacher=wrap(teacher), student=wrap(student), dataset=dataset)
    assert run.config == plain.config
    assert contents(run)[0] == contents(plain)[0]
    for network in (student, wrap(student)):
        assert run.model(network).state_dict().keys() == student.state_dict().keys()


def test_a_method_without_a_teacher_takes_none(tmp_path):
    with pytest.raises(ConfigError, match="needs no teacher"):
        fit_quietly(digits_config(method="ce"), tmp_path, teacher=small_network())


# --- what is written down ---


@pytest.fixture(scope="module")
def history(store):
    return Run.open(digits_config(method="ltkd"), store).history


def test_the_history_has_a_row_an_epoch(history):
    assert history.epoch.tolist() == [1, 2]


def test_the_terms_of_the_loss_sum_to_the_loss(history):
    terms = history[["loss_ce", "loss_cross", "loss_within"]]
    np.testing.assert_allclose(terms.sum(axis=1), history.loss, rtol=1e-12)
    assert (terms > 0).all(axis=None)


def test_the_loss_is_the_mean_over_the_images_of_the_epoch(tmp_path, dataset):
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    config = noise_config(method="ce", augmentation="none", lr=1e-12)
    row = fit_quietly(config, tmp_path, student=student, dataset=dataset).history.iloc[0]
    images = Normalizer.of(dataset.train.images)(dataset.train.images)
    logits, labels = student(images), dataset.train.labels
    assert row.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert row.train_all == pytest.approx(100 * (logits.argmax(1) == labels).float().mean().item())


def test_every_epoch_has_an_order_of_its_own(history):
    first, second = (plain(epoch) for epoch in history.teacher_mass)  # of a frozen teacher
    assert first != second


def test_the_learning_rate_is_the_one_of_the_epoch(history):
    config = digits_config(method="ltkd")
    assert history.lr.tolist() == [config.schedule().rate(epoch) for epoch in (1, 2)]


@pytest.mark.parametrize("half", ["train", "test"])
def test_accuracies_of_the_groups_average_to_the_balanced_one(history, half):
    row, classes = history.iloc[-1], {"head": 3, "medium": 4, "tail": 3}
    mean = sum(row[f"{half}_{name}"] * n for name, n in classes.items()) / 10
    assert mean == pytest.approx(row[f"{half}_balanced"])
    assert (row[f"{half}_all"] == pytest.approx(mean)) == (half == "test")  # as many test images of each class


@pytest.mark.parametrize("column", ["teacher_mass", "rebalanced_mass"])
def test_the_mass_of_every_batch_sums_to_its_size(history, column):
    for epoch in history[column]:
        np.testing.assert_allclose([sum(batch) for batch in epoch], [64] * 6 + [33], rtol=1e-5)  # 417 images


def test_the_divergence_is_recorded_by_its_parts(history):
    parts = history[["cross_kl", "within_kl_head", "within_kl_medium", "within_kl_tail"]]
    assert np.isfinite(parts).all(axis=None)
    assert (parts >= 0).all(axis=None)


def test_the_last_partial_batch_is_used(tmp_path, dataset):
    run = fit_quietly(noise_config(method="kd"), tmp_path, teacher=small_network(), dataset=dataset)
    assert [round(sum(batch)) for batch in run.history.teacher_mass[0]] == [8, 8, 8, 6]


def test_the_test_comes_at_times_and_after_each_epoch_from_the_first_milestone(tmp_path):
    config = digits_config(method="ce", epochs=8, test_every=3, milestones=(0.75,))
    tested = fit_quietly(config, tmp_path).history.test_all.notna()
    assert (np.flatnonzero(tested) + 1).tolist() == [3, 6, 7, 8]


def test_the_last_epoch_is_reported_and_the_best_beside_it(tmp_path):
    run = fit_quietly(digits_config(method="ce", epochs=4, test_every=1, lr=0.2), tmp_path)
    assert run.result["last"]["epoch"] == 4
    assert run.result["last"]["all"] == run.history.test_all.iloc[-1]
    assert run.result["best"]["balanced"] == run.history.test_balanced.max()
    assert run.result["best"]["epoch"] == run.history.test_balanced.argmax() + 1


def uneven_digits():
    """Digits in which class c has 50 - 5 c test images."""
    data = load("digits", imbalance_factor=10)
    labels = data.test.labels
    kept = [(labels == c).nonzero()[: 50 - 5 * c, 0] for c in range(10)]
    return replace(data, test=data.test.subset(torch.cat(kept)))


def test_an_accuracy_that_hides_classes_does_not_stand_alone(tmp_path):
    with pytest.warns(ResultWarning, match="predicts only [1-9] of 10 classes"):  # one epoch from scratch
        config = digits_config(method="ce", epochs=1, imbalance_factor=1)
        run = fit_quietly(config, tmp_path, dataset=uneven_digits())
    report = classification_report(
        run.labels, run.logits.argmax(1), labels=range(10), output_dict=True, zero_division=0
    )
    per_class, last = run.result["per_class"], run.result["last"]
    assert per_class["images"] == [*range(50, 0, -5)]
    for name, row in (("recall", "recall"), ("precision", "precision"), ("f1", "f1-score")):
        assert per_class[name] == pytest.approx([100 * report[str(c)][row] for c in range(10)], abs=1e-3)
    assert last["balanced"] == pytest.approx(100 * report["macro avg"]["recall"])
    assert last["macro_f1"] == pytest.approx(100 * report["macro avg"]["f1-score"])
    assert last["tail"] == pytest.approx(np.mean(per_class["recall"][7:]), abs=1e-3)
    assert run.history.test_balanced.iloc[-1] == last["balanced"]
    assert any("uneven (50 to 5 images per class)" in remark for remark in run.result["remarks"])


def test_callbacks_are_called_after_each_epoch_of_teacher_and_student(tmp_path):
    calls = []

    def callback(config, history):
        calls.append((config.method, len(history), history[-1]["epoch"]))

    fit_quietly(digits_config(method="kd"), tmp_path, callbacks=[callback])
    assert calls == [("ce", 1, 1), ("ce", 2, 2), ("kd", 1, 1), ("kd", 2, 2)]


class Fails:
    """A callback that spoils what it is given, and then fails, in its own way."""

    def __init__(self, error):
        self.error, self.called = error, 0

    def __call__(self, config, history):
        self.called += 1
        history[0]["loss"] = None
        history.clear()
        raise self.error


ERRORS = {
    "ValueError: no such thing": ValueError("no such thing"),
    "AssertionError": AssertionError(),
    "ltkd.errors.ConfigError: lr = 0": ConfigError("lr = 0"),
    "BrokenPipeError: [Errno 32] Broken pipe": BrokenPipeError(32, "Broken pipe"),
}


@pytest.mark.parametrize("line", ERRORS)
def test_a_callback_that_fails_is_a_warning_and_changes_nothing(tmp_path, line):
    config, callback = digits_config(method="ce", epochs=3, test_every=1), Fails(ERRORS[line])
    with pytest.warns(UserWarning, match=f"the callback Fails failed, and the work goes on .*: {re.escape(line)}$"):
        run = fit_quietly(config, tmp_path / "with", callbacks=[callback])
    assert callback.called == 3
    without = fit_quietly(config, tmp_path / "without")
    assert contents(run) == contents(without)
    assert history_but_for_time(run) == history_but_for_time(without)


@pytest.mark.parametrize(
    ("stop", "message"), [(Interrupted("enough"), "^enough: stopped in"), (KeyboardInterrupt(), "^stopped in")]
)
def test_a_callback_that_asks_to_stop_stops_the_run_which_goes_on_later(tmp_path, stop, message):
    def callback(config, history):
        if len(history) == 2:
            raise stop

    config = digits_config(method="ce", epochs=4)
    with pytest.raises(Interrupted, match=f"{message} epoch 3 of 4; the state after epoch 2 is stored"):
        fit_quietly(config, tmp_path, callbacks=[callback])
    run, epochs = trained_epochs(config, tmp_path)
    assert epochs == [("ce", 3), ("ce", 4)] and run.finished


def test_a_result_carries_recipe_overrides_and_assumptions(store):
    config = digits_config(method="ltkd")
    result = Run.open(config, store).result
    assert result["recipe"] == "digits"
    assert (result["overrides"], result["assumptions"]) == (config.overrides(), config.assumptions())
    assert (result["train_images"], result["shape"]["num_classes"]) == (417, 10)


# --- what goes wrong ---


def test_training_that_diverges_says_so(tmp_path):
    with pytest.raises(RunError, match=r"diverged.*--lr"):
        fit_quietly(digits_config(method="ce", lr=1e30), tmp_path)


class Wrong(nn.Module):
    """A network whose first logit of an image in `rows` is `value`, in batches of at least `least` images."""

    def __init__(self, value, least=0, rows=slice(None), columns=0):
        super().__init__()
        self.inner, self.value, self.least, self.rows, self.columns = small_network(), value, least, rows, columns

    def forward(self, images):
        logits = self.inner(images)
        if len(images) < self.least:
            return logits
        wrong = torch.zeros_like(logits, dtype=torch.bool)
        wrong[self.rows, self.columns] = True
        return logits.masked_fill(wrong, self.value)


WRONG = {
    "nan": {"value": torch.nan},
    "inf": {"value": torch.inf},
    "only masked classes": {"value": -torch.inf, "columns": slice(None)},
    "nan for some images": {"value": torch.nan, "rows": slice(1, None, 2)},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_teacher_without_logits_is_named_whether_cached_or_not(tmp_path, dataset, wrong, when):
    for method, cache in (("ltkd", "memory"), ("ltkd", "off"), ("kd", "off")):
        teacher = Wrong(**wrong, least=0 if when == "at the start" else 6)
        if when == "later" and cache == "memory":
            teacher.least = 17  # the cache asks for the logits of 16 images to know the teacher
        with (
            about(method, cache),
            pytest.raises(RunError, match=r"the teacher custom:Wrong-\w+ returned NaN, inf or only -inf for") as raised,
        ):
            fit_quietly(noise_config(method=method), tmp_path / cache, teacher=teacher, dataset=dataset, cache=cache)
        assert "--lr" not in str(raised.value)
        assert "--cache" not in str(raised.value)


def test_a_student_without_logits_is_named_at_the_start(tmp_path, dataset):
    with pytest.raises(RunError, match=r"the student custom:Wrong-\w+ returned NaN, inf"):
        fit_quietly(noise_config(method="ce"), tmp_path, student=Wrong(torch.nan), dataset=dataset)


@pytest.mark.parametrize("method", ["kd", "dkd", "dist", "bkd", "ltkd"])
def test_a_teacher_may_mask_a_class(tmp_path, dataset, method):
    runs = [
        fit_quietly(noise_config(method=method), tmp_path / c, teacher=Wrong(-torch.inf), dataset=dataset, cache=c)
        for c in ("memory", "off")
    ]
    for run in runs:
        assert np.isfinite(run.history.loss).all()
        assert np.isfinite([*run.history.teacher_mass[0], *run.history.rebalanced_mass[0]]).all()
    cached, computed = (run.history.loss for run in runs)
    np.testing.assert_allclose(cached, computed, rtol=2e-2)


def test_a_student_that_masks_what_its_teacher_does_not_is_told_so(tmp_path, dataset):
    student = Wrong(-torch.inf, rows=slice(0, 1))
    with pytest.raises(RunError, match=r"the loss is inf in epoch 1: the student masks"):
        fit_quietly(noise_config(method="kd"), tmp_path, student=student, teacher=small_network(), dataset=dataset)


@pytest.mark.parametrize("state", [3, [], "ok", {}, {"history": []}, {"student": {}, "method": {}}], ids=str)
def test_a_checkpoint_that_holds_something_else_is_named(state, tmp_path):
    run = Run.open(digits_config(method="ce", epochs=1), tmp_path)
    run.start()
    run.save_checkpoint(checkpoint_bytes(state))
    with pytest.raises(
        RunError, match=r"checkpoint\.pt is no training state of this run .*; remove it to train"
    ) as error:
        fit_quietly(run.config, tmp_path)
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ConfigError, match=r"cuda:99.*cpu"):
        training.pick_device("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x", None, True, 0.5])
def test_a_device_of_no_kind_is_an_error(name):
    with pytest.raises(ConfigError, match="device"):
        training.pick_device(name)


WRONG_ARGUMENTS = {
    "device": ["cuda:99", "gpu", "", None, True],
    "workers": [-1, "3", 1.5, True],
    "cache": ["ram", "", None],
    "compile": ["yes", None, 1],
    "progress": ["no"],
    "retrain": ["yes"],
    "weights": [None],
    "until": ["soon", float("nan"), float("inf"), True],
    "callbacks": [3, [3], print],
    "runs": ["", 3, True],
    "data_root": ["", 3],
    "config": [None, {}, "ce"],
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_a_wrong_argument_is_refused_though_the_run_is_finished(name, store):
    config = digits_config(method="kd")
    before = {path.name for path in store.iterdir()}
    for value in WRONG_ARGUMENTS[name]:
        given = {"config": config, "runs": store, "device": "cpu", "progress": False} | {name: value}
        for train in (lambda config, **where: fit(config, **where), lambda config, **where: sweep([config], **where)):
            with about(value), pytest.raises(ConfigError) as error:
                train(**given)
            assert "\n" not in str(error.value)
    assert fit(config, runs=store, device=torch.device("cpu"), workers=np.int64(2), until=time.time()).finished
    assert {path.name for path in store.iterdir()} == before


def test_the_cpu_is_always_there():
    assert training.pick_device("cpu").type == "cpu"


def test_auto_takes_the_gpu_where_there_is_one():
    assert training.pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_more_groups_than_classes_are_an_error(tmp_path, dataset):
    with pytest.raises(ConfigError, match="n_groups"):
        fit_quietly(noise_config(method="ltkd", n_groups=4), tmp_path, teacher=small_network(), dataset=dataset)


def test_an_error_leaves_no_run_that_claims_to_be_finished(tmp_path):
    config = digits_config(method="ce", imbalance_factor=1000)
    with pytest.raises(DataError, match="too large"):
        fit_quietly(config, tmp_path)
    assert not Run.open(config, tmp_path).finished


# --- precision, torch.compile ---


def test_bf16_is_near_fp32_and_a_run_of_its_own(tmp_path):
    plain, half = (fit_quietly(digits_config(method="ce", precision=p), tmp_path) for p in ("fp32", "bf16"))
    assert plain.config.id != half.config.id
    assert plain.history["loss"][0] != half.history["loss"][0] == pytest.approx(plain.history["loss"][0], rel=0.05)
    assert half.logits.dtype == np.float32


class OwnAutocast(nn.Sequential):
    """A student that chooses its precision itself."""

    def forward(self, images):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(images).float()


def test_a_student_with_its_own_autocast_is_tested_with_its_present_weights(tmp_path):
    student = OwnAutocast(nn.Flatten(), nn.Linear(64, 10))
    run = fit_quietly(digits_config(method="ce", epochs=2), tmp_path, student=student)
    images = load("digits", imbalance_factor=20).test.images
    assert np.array_equal(run.logits, run.predict(images, student))


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


AROUND = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default dtype": lambda: default_dtype(torch.float64),
    "default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("around", AROUND)
def test_what_torch_is_set_to_around_fit_changes_nothing(tmp_path, around):
    config = digits_config(method="kd", epochs=1, teacher_epochs=1)
    plain = fit_quietly(config, tmp_path / "plain")
    with AROUND[around]():
        inside = fit_quietly(config, tmp_path / "inside")
        answers = inside.predict(torch.zeros(2, 1, 8, 8, dtype=torch.uint8, device="cpu"))
    assert np.array_equal(inside.logits, plain.logits)
    assert history_but_for_time(inside) == history_but_for_time(plain)
    assert np.array_equal(answers, plain.predict(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)))


def test_a_run_resumed_with_compile_tells_both_modes():
    job = prepared("ce")
    state = job.state()
    job.compiled = "default"
    job.load(state)
    assert job.modes == [None, "default"]


@pytest.mark.slow
def test_a_compiled_run_is_the_eager_one_within_rounding_and_says_so(tmp_path):
    config = digits_config(method="ltkd", epochs=1)
    eager, compiled = (fit_quietly(config, tmp_path / str(how), compile=how) for how in (False, True))
    assert (eager.result["compiled"], compiled.result["compiled"]) == (None, "default")
    terms = [column for column in eager.history if column.startswith(("loss", "cross", "within"))]
    np.testing.assert_allclose(compiled.history[terms], eager.history[terms], rtol=1e-3)
    compiled.model()  # its weights have the names of the plain network


@pytest.mark.slow
def test_without_a_compiler_compile_is_refused_before_training(tmp_path):
    code = (
        "import sys; from helpers import digits_config; from ltkd import fit, ConfigError\n"
        "try: fit(digits_config(method='ce'), runs=sys.argv[1], device='cpu', compile=True)\n"
        "except ConfigError as error: print(error)"
    )
    env = os.environ | {"CXX": "no-such-compiler", "PYTHONPATH": os.pathsep.join(sys.path)}
    env["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "compiled")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "runs"], capture_output=True, text=True, env=env)
    assert "torch.compile does not work on this machine" in done.stdout, done.stderr
    assert not (tmp_path / "runs").exists()
