"""Many runs: one by one or side by side, the same; a failure or Ctrl-C costs nothing of the others."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers import digits_config, hears_ctrl_c, other_result
from torch import nn

from ltkd import ConfigError, Interrupted, Method, RunConfig, RunError, fit, runs
from ltkd.errors import SweepError
from ltkd.methods import METHODS
from ltkd.models import build
from ltkd.reproduce.grids import expand
from ltkd.reproduce.sweep import in_order, sweep
from ltkd.training import fit as training

with_jobs = pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LTKD_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
def test_runs_side_by_side_are_the_runs_one_by_one(tmp_path):
    grid = {**digits_config().to_dict(), "method": ["kd", "crt"], "seed": [0, 1]}
    wanted = ("epochs", "teacher", "student", "imbalance_factor", "batch_size", "lr", "method", "seed")
    configs = expand({name: grid[name] for name in wanted})
    where = {"device": "cpu", "progress": False, "report": lambda line: None}
    alone, together = (sweep(configs, jobs=jobs, runs=tmp_path / str(jobs), **where) for jobs in (1, 2))
    assert [run.config for run in alone] == [run.config for run in together] == configs
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.logits, other.logits)


@pytest.mark.slow
def test_a_run_that_fails_side_by_side_does_not_stop_the_others(tmp_path):
    good, bad = digits_config(method="ce", epochs=1), digits_config(method="ce", epochs=1, lr=1e30)
    finished, failed = what_fails([bad, good], tmp_path, 2)
    assert [run.config.id for run in finished] == [good.id]
    assert "diverged" in str(failed[bad.name])


def test_what_runs_build_on_comes_once_and_right_before_the_first_that_needs_it():
    configs = expand({"method": ["kd", "ltkd", "bkd+crt"], "seed": [0, 1]})
    order = [(config.method, config.seed) for config in in_order(configs)]
    one_seed = ["ce", "kd", "ltkd", "bkd", "bkd+crt"]
    assert order == [(method, seed) for seed in (0, 1) for method in one_seed]


def test_what_is_done_is_left_out_with_what_it_alone_builds_on():
    kd, ltkd = expand({"method": ["kd", "ltkd"]})
    assert in_order([kd], done=[kd.id]) == []
    assert [config.method for config in in_order([kd, ltkd], done=[kd.id])] == ["ce", "ltkd"]
    assert [config.method for config in in_order([kd], done=[kd.for_teacher().id])] == ["kd"]


@pytest.mark.slow
def test_side_by_side_no_run_is_begun_before_what_it_builds_on(tmp_path):
    configs = expand({"recipe": "digits", "method": ["kd", "crt"], "seed": [0, 1], "epochs": 2})
    assert len(quietly(configs, tmp_path, 2)) == 4
    begun = {run.config.id: (run.folder / "config.json").stat().st_mtime for run in runs.all_runs(tmp_path)}
    ended = {run.config.id: run.finished_at for run in runs.all_runs(tmp_path)}
    for config in in_order(configs):
        assert all(ended[before.id] <= begun[config.id] for before in config.builds_on().values())


# --- many short sittings ---

LONG = {"method": "ce", "epochs": 3000}


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "2", True, None])
def test_jobs_are_a_number(jobs, tmp_path):
    with pytest.raises(ConfigError, match=r"jobs = .*: must be a whole number of at least 1"):
        sweep([digits_config(method="ce")], jobs=jobs, runs=tmp_path)


def sitting(configs, folder, seconds, jobs=1):
    """What is finished and what is said, when so many seconds are given."""
    lines = []
    where = {"runs": folder, "device": "cpu", "progress": False, "report": lines.append}
    return sweep(configs, jobs=jobs, until=time.time() + seconds, **where), lines


@pytest.mark.slow
def test_when_time_is_up_the_run_in_training_is_stored_and_no_other_is_begun(tmp_path):
    short, long, other = digits_config(method="ce", epochs=1), digits_config(**LONG), digits_config(method="ce", seed=9)
    started = time.time()
    finished, lines = sitting([short, long, other], tmp_path, 6)
    assert 5.5 < time.time() - started < 20
    assert [run.config.id for run in finished] == [short.id]
    assert lines[-1].startswith(f"{long.name}: time is up: stopped in epoch")
    assert "is stored in" in lines[-1]
    assert (tmp_path / long.name / "checkpoint.pt").is_file()
    assert not (tmp_path / other.name).exists()


@pytest.mark.slow
def test_a_run_in_many_sittings_is_the_run_in_one(tmp_path, monkeypatch):
    config = digits_config(method="kd", epochs=12)
    whole = fit(config, runs=tmp_path / "whole", device="cpu", progress=False)
    epochs = []
    train_epoch = training.train_epoch

    def slow(job, epoch, bar):  # so that a sitting ends between epochs, and within one
        epochs.append(epoch)
        time.sleep(0.12)
        return train_epoch(job, epoch, bar)

    monkeypatch.setattr(training, "train_epoch", slow)
    for _ in range(40):
        finished, _ = sitting([config], tmp_path / "parts", 1.2)
        if finished:
            break
    assert len(epochs) > 2 * 12  # some epochs of teacher and student were begun twice
    assert np.array_equal(finished[0].logits, whole.logits)
    assert finished[0].result["last"] == whole.result["last"]


@pytest.mark.slow
def test_no_time_trains_nothing(tmp_path):
    for jobs in (1, 2):
        assert sitting([digits_config(method="ce")], tmp_path / "runs", -1, jobs) == ([], [])
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_side_by_side_too_every_run_in_training_is_stored(tmp_path):
    configs = [digits_config(seed=seed, **LONG) for seed in range(4)]
    for seconds in (12, 24, 48, 96):  # on a busy machine the first may end before an epoch does
        finished, lines = sitting(configs, tmp_path / "runs", seconds, jobs=2)
        assert finished == []
        assert len(lines) <= 2
        assert all("time is up: " in line for line in lines)
        if len([*tmp_path.glob("runs/*/checkpoint.pt")]) == 2:
            break
    assert len([*tmp_path.glob("runs/*/checkpoint.pt")]) == len([*tmp_path.glob("runs/*")]) == 2


@pytest.mark.slow
def test_ctrl_c_means_what_it_meant_after_a_sitting(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    sitting([digits_config(**LONG)], tmp_path, 2)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_a_sitting_is_not_the_end_of_its_time(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_epoch", interrupt)
    with pytest.raises(Interrupted, match="to go on"):
        sitting([digits_config(method="ce")], tmp_path, 600)


@pytest.mark.slow
def test_a_shell_that_ignores_ctrl_c_does_not_keep_a_sitting_from_ending(tmp_path):
    code = (
        "import sys; from ltkd.__main__ import main; sys.exit(main(['sweep', '--method', 'ce', '--epochs', '5000', "
        "'--minutes', '0.3', '--quiet', '--device', 'cpu', '--runs', sys.argv[1]]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    child = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert child.wait(60) == 3
    assert [*tmp_path.glob("*/checkpoint.pt")]


@pytest.mark.slow
def test_a_method_of_ones_own_reaches_other_processes(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "own", own_method(1.0))
    runs = [quietly([digits_config(method="own", epochs=1)], tmp_path / str(jobs), jobs)[0] for jobs in (1, 2)]
    assert runs[0].config.id == runs[1].config.id
    assert np.array_equal(runs[0].logits, runs[1].logits)


def own_method(weight):
    class Own(Method):
        """A method."""

        def forward(self, step):
            return {"ce": weight * step.logits.square().mean()}

    return Own


def test_a_method_with_other_code_is_trained_again_and_the_old_run_is_no_result_of_it(tmp_path, monkeypatch):
    config = digits_config(method="ce", epochs=1).to_dict() | {"method": "own", "options": {}}
    losses = []
    for weight in (1.0, 3.0):
        monkeypatch.setitem(METHODS, "own", own_method(weight))
        (run,) = quietly([RunConfig.from_dict(config)], tmp_path)
        losses += run.history.loss.tolist()
    assert len(set(losses)) == 2
    assert [found.folder for found in runs.all_runs(tmp_path)] == [run.folder]
    assert "other code than method 'own' has now" in str(*runs.read_store(tmp_path).strangers.values())


def test_a_method_that_writes_into_its_class_loses_no_run(tmp_path, monkeypatch):
    class Own(Method):
        """A method."""

        losses = []

        def forward(self, step):
            self.losses.append(len(step.labels))
            return {"ce": step.logits.square().mean()}

    monkeypatch.setitem(METHODS, "own", Own)
    configs = [digits_config(method="own", epochs=1, seed=seed) for seed in (0, 1)]
    first = configs[0].name
    trained = quietly(configs, tmp_path)
    assert [run.config.seed for run in trained] == [0, 1]
    assert trained[0].folder.name == trained[0].result["name"] == first
    assert digits_config(method="own", epochs=1).name != first  # by now it is another method


@with_jobs
def test_what_is_asked_for_is_trained_anew_and_what_it_builds_on_is_not(tmp_path, jobs):
    config = digits_config(method="kd", epochs=1)
    quietly([config], tmp_path)
    before = {run.folder: run.finished_at for run in runs.all_runs(tmp_path)}
    (run,) = quietly([config], tmp_path, jobs, retrain=True)
    after = {run.folder: run.finished_at for run in runs.all_runs(tmp_path)}
    assert [folder for folder in before if after[folder] > before[folder]] == [run.folder]


@pytest.mark.slow
def test_an_object_of_a_class_inside_a_function_reaches_other_processes(tmp_path):
    class Own(nn.Linear):
        """No other process can import it."""

    config, teacher = digits_config(method="kd", epochs=1), nn.Sequential(nn.Flatten(), Own(64, 10))
    runs = [quietly([config], tmp_path / str(jobs), jobs, teacher=teacher)[0] for jobs in (1, 2)]
    assert runs[0].config.id == runs[1].config.id
    assert np.array_equal(runs[0].logits, runs[1].logits)


class Locked(nn.Sequential):
    """No other process can be given its lock. It is a callback, too."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
        self.lock = threading.Lock()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["teacher", "student", "callbacks"])
def test_an_object_that_cannot_be_sent_to_other_processes_is_refused(tmp_path, role):
    given = {role: [Locked()] if role == "callbacks" else Locked()}
    with pytest.raises(ConfigError, match=r"your own object, callback or method .* jobs=1"):
        quietly([digits_config(method="kd")], tmp_path, 2, **given)


def test_no_runs_are_none_whatever_the_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[sweep.__module__], "Processes", None)  # nor is a process started for them
    assert [sweep([], jobs=jobs, runs=tmp_path) for jobs in (1, 2)] == [[], []]


def test_a_fault_in_a_report_or_a_callback_stops_no_run(tmp_path):
    def fails(*_args):
        raise ValueError("no such thing")

    configs = [digits_config(method="ce", epochs=1, seed=seed) for seed in (0, 1)]
    with pytest.warns(UserWarning, match=r"callback .*fails failed.*: ValueError: no such thing"):
        finished = sweep(configs, runs=tmp_path, device="cpu", progress=False, callbacks=[fails], report=fails)
    assert [run.config.seed for run in finished] == [0, 1]


def test_a_callback_that_asks_to_stop_stops_the_sweep_and_what_is_trained_is_stored(tmp_path):
    def stops(config, history):
        if len(history) == 2:
            raise Interrupted("good enough")

    configs = [digits_config(method="ce", epochs=4, seed=seed) for seed in (0, 1)]
    with pytest.raises(Interrupted, match=r"^good enough: stopped in epoch 3 of 4; the state after epoch 2 is stored"):
        sweep(configs, runs=tmp_path, device="cpu", progress=False, callbacks=[stops], report=None)
    assert [path.parent.name for path in tmp_path.rglob("checkpoint.pt")] == [configs[0].name]


@pytest.mark.slow
def test_ctrl_c_side_by_side_begins_no_further_run(tmp_path):
    script = (
        "import sys; from ltkd.__main__ import main; "
        "sys.exit(main(['sweep', '--method', 'ce', '--seed', *map(str, range(8)), '--epochs', '1000', '--jobs', '2', "
        "'--quiet', '--runs', sys.argv[1]])) if __name__ == '__main__' else None"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, tmp_path / "script.py", tmp_path / "runs"]
    child = subprocess.Popen(
        command, start_new_session=True, preexec_fn=hears_ctrl_c, stderr=subprocess.PIPE, text=True
    )
    started = time.monotonic()
    while len([*tmp_path.glob("runs/*/config.json")]) < 2 and time.monotonic() - started < 120:
        time.sleep(0.1)
    time.sleep(3)  # an epoch or more
    os.killpg(child.pid, signal.SIGINT)
    assert "to go on" in child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert len([*tmp_path.glob("runs/*/config.json")]) == 2
    assert len([*tmp_path.glob("runs/*/checkpoint.pt")]) == 2


# --- what fails ---


def quietly(configs, folder, jobs=1, **where):
    return sweep(configs, jobs=jobs, runs=folder, device="cpu", progress=False, report=lambda line: None, **where)


def what_fails(configs, folder, jobs, **where):
    """The finished runs of a sweep, and the errors of the others by name."""
    with pytest.raises(SweepError) as caught:
        quietly(configs, folder, jobs, **where)
    return caught.value.finished, caught.value.failed


def die_with_seed_0(config, _history):
    if config.seed == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.seed == 1:
        time.sleep(600)


@pytest.mark.slow
def test_a_process_that_is_killed_takes_the_runs_in_training_with_it_and_no_other(tmp_path):
    configs = [digits_config(method="ce", epochs=1, seed=seed) for seed in range(4)]
    finished, failed = what_fails(configs, tmp_path, 2, callbacks=[die_with_seed_0])
    assert {run.config.seed for run in finished} == {2, 3}
    assert set(failed) == {config.name for config in configs[:2]}
    assert all(isinstance(error, RunError) and "use fewer --jobs" in str(error) for error in failed.values())


@with_jobs
def test_what_builds_on_a_run_that_fails_is_dropped_with_its_name(tmp_path, jobs):
    settings = {"epochs": 1, "teacher_lr": 1e30}
    configs = [digits_config(method=method, **settings) for method in ("kd", "bkd+crt", "ltkd")]
    good = digits_config(method="ce", epochs=1)
    teacher = configs[0].for_teacher()
    finished, failed = what_fails([*configs, good], tmp_path, jobs)
    assert [run.config.id for run in finished] == [good.id]
    assert set(failed) == {config.name for config in configs}
    assert all(teacher.name in str(error) and "diverged" in str(error) for error in failed.values())
    assert {file.parent.name for file in tmp_path.glob("*/config.json")} == {teacher.name, good.name}


def test_a_run_that_fails_is_tried_once(tmp_path, monkeypatch):
    begun, train_epoch = [], training.train_epoch
    monkeypatch.setattr(training, "train_epoch", lambda *given: begun.append(given) or train_epoch(*given))
    configs = [digits_config(method=method, teacher_lr=1e30) for method in ("kd", "ltkd")]
    what_fails(configs, tmp_path, 1)
    assert len(begun) == 1


@with_jobs
def test_a_damaged_run_fails_alone_and_loses_nothing(store, tmp_path, jobs):
    damaged, good = digits_config(method="kd"), digits_config(method="ltkd")
    shutil.copytree(store, tmp_path, dirs_exist_ok=True)
    (tmp_path / damaged.name / "result.json").write_text("{")
    before = {file: file.read_bytes() for file in (tmp_path / damaged.name).iterdir()}
    finished, failed = what_fails([damaged, good], tmp_path, jobs)
    assert [run.config.id for run in finished] == [good.id]
    assert "result.json is damaged" in str(failed[damaged.name])
    assert {file: file.read_bytes() for file in (tmp_path / damaged.name).iterdir()} == before


def test_an_imported_run_that_is_trained_again_comes_back_with_its_new_result(tmp_path):
    student = digits_config(method="kd", epochs=1)
    teacher = student.for_teacher()
    run = fit(teacher, runs=tmp_path, device="cpu", progress=False)
    (run.folder / "student.safetensors").unlink()
    other_result(run.folder, last=lambda last: last | {"all": 99.99})
    finished = {run.config.id: run for run in quietly([teacher, student], tmp_path, 1)}
    assert finished[teacher.id].result["last"]["all"] != 99.99
    assert finished[teacher.id].has_weights


@with_jobs
def test_a_finished_run_needs_no_teacher_any_more(store, tmp_path, jobs):
    config = digits_config(method="kd")
    shutil.copytree(store / config.name, tmp_path / config.name)
    assert [run.config.id for run in quietly([config], tmp_path, jobs)] == [config.id]
    assert [file.parent.name for file in tmp_path.glob("*/config.json")] == [config.name]


def test_with_a_teacher_of_ones_own_no_other_is_trained(tmp_path):
    config = digits_config(method="kd", epochs=1)
    teacher = build("resnet8", num_classes=10, in_channels=1, image_size=8)
    assert len(quietly([config], tmp_path, 1, teacher=teacher)) == 1
    assert len([*tmp_path.glob("*/config.json")]) == 1
