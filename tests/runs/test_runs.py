import errno
import json
import shutil
import threading
import time
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from helpers import about, digits_config, other_result
from torch import nn

from ltkd import METHODS, Method, Run, RunConfig, RunError, fit, runs
from ltkd.datasets import load
from ltkd.training import fit as training

LTKD = digits_config(method="ltkd")
MEASURES = ("all", "balanced", "macro_f1", "head", "medium", "tail", "many_shot", "medium_shot", "few_shot")


@pytest.fixture
def finished(store):
    return Run.open(LTKD, store)


@pytest.fixture
def own_copy(finished, tmp_path):
    """A finished run that a test may damage."""
    folder = tmp_path / finished.folder.name
    folder.mkdir()
    for file in finished.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return Run.load(folder)


def test_a_run_is_found_by_its_config_or_its_folder(store):
    assert Run.load(Run.open(LTKD, store).folder).config == LTKD


def test_ltkd_runs_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LTKD_RUNS", str(tmp_path))
    assert Run.open(LTKD).folder == tmp_path / LTKD.name


def test_a_new_run_is_unfinished_and_holds_its_config(tmp_path):
    run = Run.open(LTKD, tmp_path)
    run.start()
    assert not run.finished
    assert RunConfig.from_dict(json.loads((run.folder / "config.json").read_text())) == LTKD


def test_opening_a_run_leaves_no_trace_until_it_starts(tmp_path):
    Run.open(LTKD, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_repr_says_whether_a_run_is_finished(finished, tmp_path):
    assert repr(finished) == f"Run({LTKD.name}, finished)"
    assert repr(Run.open(LTKD, tmp_path)) == f"Run({LTKD.name}, unfinished)"


def test_a_finished_run_holds_these_files_and_no_checkpoint(finished):
    assert {file.name for file in finished.folder.iterdir()} == {
        "config.json",
        "history.parquet",
        "logits.npz",
        "result.json",
        "student.safetensors",
    }


def test_what_a_kill_left_is_cleared_away_when_the_run_is_finished(tmp_path):
    config = digits_config(method="ce", epochs=1)
    left_over = Run.open(config, tmp_path).folder / ".writing-checkpoint.pt-00"
    left_over.parent.mkdir()
    left_over.write_bytes(b"half")
    assert fit(config, runs=tmp_path, device="cpu", progress=False).finished
    assert not left_over.exists()


def test_a_folder_that_holds_another_config_is_an_error(tmp_path):
    run = Run.open(LTKD, tmp_path)
    run.start()
    (run.folder / "config.json").write_text(json.dumps(replace(LTKD, seed=7).to_dict()))
    with pytest.raises(RunError, match="holds another run"):
        Run.open(LTKD, tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"epochs": 0}', '{"colour": "red"}'], ids=["empty", "cut", "list", "range", "name"]
)
def test_a_damaged_config_is_an_error(tmp_path, text):
    run = Run.open(LTKD, tmp_path)
    run.start()
    (run.folder / "config.json").write_text(text)
    with pytest.raises(RunError, match=r"config\.json"):
        Run.load(run.folder)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(RunError, match=r"config\.json"):
        Run.load(tmp_path)


READERS = {
    "result.json": lambda run: run.result,
    "history.parquet": lambda run: run.history,
    "logits.npz": lambda run: run.logits,
    "student.safetensors": lambda run: run.model(),
}


@pytest.mark.parametrize("name", READERS)
def test_an_unfinished_run_cannot_be_read(tmp_path, name):
    with pytest.raises(RunError, match="not finished"):
        READERS[name](Run.open(LTKD, tmp_path))


def flipped(share):
    """One bit changed, at this share of the file."""

    def damage(data, other):
        place = min(int(share * len(data)), len(data) - 1)
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return damage


DAMAGES = {
    "emptied": lambda data, other: b"",
    "cut off": lambda data, other: data[: len(data) // 2],
    "without its end": lambda data, other: data[:-1],
    "longer": lambda data, other: data + b" ",
    "another run's": lambda data, other: other,
    **{f"a bit at {share:.0%}": flipped(share) for share in np.linspace(0, 1, 9)},
}


def everything(folder):
    """All that is stored of a finished run."""
    run = Run.load(folder)
    weights = run.model().state_dict()
    numbers = [run.logits, run.labels, run.class_counts, *(value.numpy() for value in weights.values())]
    return run.config, run.result, run.history.to_json(), [array.tobytes() for array in numbers]


@pytest.mark.parametrize("name", ["config.json", *READERS])
def test_a_file_that_changed_after_it_was_stored_is_named_and_never_gives_other_numbers(own_copy, store, name):
    path, before = own_copy.folder / name, everything(own_copy.folder)
    good, other = path.read_bytes(), (Run.open(digits_config(method="kd"), store).folder / name).read_bytes()
    for what, damage in DAMAGES.items():
        path.write_bytes(damage(good, other))
        with about(name, what):
            try:
                assert everything(own_copy.folder) == before  # such as another space between two numbers
                assert path.suffix == ".json"
            except RunError as error:
                assert name in str(error) and str(own_copy.folder) in str(error)
                assert "\n" not in str(error)


@pytest.mark.parametrize("name", READERS)
def test_a_run_of_an_older_version_has_no_digests_and_is_read(own_copy, name):
    path = own_copy.folder / "result.json"
    path.write_text(json.dumps({key: value for key, value in own_copy.result.items() if key != "digests"}))
    READERS[name](Run.load(own_copy.folder))
    (own_copy.folder / name).write_bytes(b"")
    with pytest.raises(RunError, match=name):
        READERS[name](Run(own_copy.folder, own_copy.config))


@pytest.mark.parametrize("name", ["config.json", *READERS])
def test_a_file_that_cannot_be_read_is_not_called_damaged(own_copy, monkeypatch, name):
    real = Path.read_bytes

    def refused(path):
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refused)  # the tests may run as root, who may read all
    with pytest.raises(RunError, match=rf"{name} cannot be read \(Permission denied\)") as error:
        everything(own_copy.folder)
    assert not {"damaged", "remove", "version"} & set(str(error.value).split())


MISSING = {
    "history.parquet": "this run is damaged",
    "logits.npz": r"stored without its logits; train this run here: fit\(run.config, weights=True\)",
    "student.safetensors": "stored without its weights; train this run here",
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_file_of_a_finished_run_is_named(own_copy, name):
    (own_copy.folder / name).unlink()
    with pytest.raises(RunError, match=f"{name}.*{MISSING[name]}"):
        READERS[name](own_copy)


def test_a_state_that_changed_after_it_was_stored_is_named_and_never_gives_other_numbers(tmp_path):
    run, other = Run.open(LTKD, tmp_path), Run.open(digits_config(method="kd"), tmp_path)
    for each in (run, other):
        each.save_checkpoint(runs.checkpoint_bytes({"weights": torch.ones(1000)}))
    path = run.folder / "checkpoint.pt"
    good = path.read_bytes()
    assert run.load_checkpoint()["weights"].sum() == 1000
    for what, damage in DAMAGES.items():
        path.write_bytes(damage(good, (other.folder / "checkpoint.pt").read_bytes()))
        with about(what), pytest.raises(RunError, match=r"checkpoint\.pt is damaged .*; remove it to train"):
            run.load_checkpoint()


def test_a_state_of_an_older_version_is_loaded(tmp_path):
    run = Run.open(LTKD, tmp_path)
    run.start()
    (run.folder / "checkpoint.pt").write_bytes(runs.checkpoint_bytes({"epoch": 3}))
    assert run.load_checkpoint() == {"epoch": 3}


def test_a_state_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    run = Run.open(LTKD, tmp_path)
    run.save_checkpoint(runs.checkpoint_bytes({"epoch": 3}))

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(RunError, match=r"checkpoint\.pt cannot be read") as error:
        run.load_checkpoint()
    assert "remove" not in str(error.value)


# --- removed while it trains ---


@pytest.mark.parametrize("removed", ["the folder", "config.json"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_whose_folder_is_removed_while_it_trains_is_stored_whole(tmp_path, monkeypatch, removed, epoch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    config = digits_config(method="ce", teacher=None, epochs=3)

    def remove(config, history):
        folder = tmp_path / config.name
        if len(history) == epoch:
            shutil.rmtree(folder) if removed == "the folder" else (folder / "config.json").unlink()
        elif epoch < len(history) < 3:  # the next state brought it back
            assert [run.config for run in runs.all_runs(tmp_path)] == [config]

    run = fit(config, runs=tmp_path, device="cpu", progress=False, callbacks=[remove])
    assert runs.table(tmp_path).run.tolist() == [config.name]
    everything(run.folder)


def test_logits_labels_and_counts_are_those_of_the_data(finished):
    data = load("digits", imbalance_factor=LTKD.imbalance_factor)
    assert (finished.logits.shape, finished.logits.dtype) == ((500, 10), np.float32)
    assert np.array_equal(finished.labels, data.test.labels)
    assert np.array_equal(finished.class_counts, data.class_counts)


def test_the_accuracy_is_that_of_the_stored_logits(finished):
    accuracy = 100 * (finished.logits.argmax(1) == finished.labels).mean()
    assert finished.result["last"]["all"] == pytest.approx(accuracy)


def test_the_stored_student_predicts_the_stored_logits(finished):
    logits = finished.predict(load("digits").test.images)
    np.testing.assert_allclose(logits, finished.logits, atol=1e-5)


def test_the_stored_student_comes_in_evaluation_mode(finished):
    assert not finished.model().training


class Enclosing(Method):
    """Goes on from a network whose classifier the method before replaced, and puts it into another."""

    parent = METHODS["ldam-drw"]

    def wrap(self, student):
        return nn.Sequential(student, nn.LayerNorm(len(self.task.class_counts)))

    def forward(self, step):
        return {"ce": F.cross_entropy(step.logits, step.labels)}


def test_the_student_of_a_second_stage_is_made_as_both_methods_make_it(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "enclosing", Enclosing)
    run = fit(digits_config(method="enclosing", epochs=1), runs=tmp_path, device="cpu", progress=False)
    np.testing.assert_allclose(run.predict(load("digits").test.images), run.logits, atol=1e-5)


def test_a_student_of_ones_own_is_asked_for(own_copy):
    own_copy.config = replace(LTKD, student="custom:Net-12345678")
    with pytest.raises(RunError, match="network="):
        own_copy.model()


def test_the_table_has_a_row_a_finished_run(store):
    frame = runs.table(store)
    assert sorted(frame.method) == ["ce", "ce", "kd", "kd", "ltkd", "ltkd"]


def test_unfinished_runs_and_other_folders_are_not_in_the_table(own_copy, tmp_path):
    Run.open(digits_config(method="kd", seed=9), tmp_path).start()
    (tmp_path / "notes").mkdir()
    assert runs.table(tmp_path).run.tolist() == [own_copy.config.name]


@pytest.mark.parametrize("damage", [b"", b'{"name": "dig', b"{}", b"null"], ids=["empty", "cut", "other", "nothing"])
def test_a_run_with_a_damaged_result_is_passed_over_as_a_stranger(own_copy, store, damage):
    other = Run.open(digits_config(method="kd"), store)
    shutil.copytree(other.folder, own_copy.folder.parent / other.folder.name)
    (own_copy.folder / "result.json").write_bytes(damage)
    assert runs.table(own_copy.folder.parent).run.tolist() == [other.config.name]
    ((path, why),) = runs.read_store(own_copy.folder.parent).strangers.items()
    assert path == own_copy.folder
    assert "result.json" in str(why)


def test_a_folder_that_cannot_be_read_is_named_and_hides_no_other_run(own_copy, store, monkeypatch):
    folder, real = own_copy.folder.parent, Path.read_bytes
    other = shutil.copytree((kept := Run.open(digits_config(method="kd"), store)).folder, folder / kept.config.name)
    closed = [own_copy.folder]

    def refused(path):
        if path.parent in closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", refused)  # the tests may run as root, who may read all
    monkeypatch.setattr("os.access", lambda path, mode: path not in closed)
    found = runs.read_store(folder)
    assert [run.folder for run in found.runs] == [other]
    ((path, why),) = found.strangers.items()
    assert path == own_copy.folder and "cannot be read (Permission denied)" in str(why) and "remove" not in str(why)
    closed.append(folder)
    with pytest.raises(RunError, match="cannot be read; make it readable, or choose another folder"):
        runs.all_runs(folder)


def test_a_run_from_before_a_revision_of_its_method_is_a_stranger(own_copy, monkeypatch):
    folder = own_copy.folder.parent
    assert [run.config.method for run in runs.all_runs(folder)] == ["ltkd"]
    monkeypatch.setattr(METHODS["ltkd"], "revision", METHODS["ltkd"].revision + 1)
    assert runs.all_runs(folder) == []
    assert "other code than method 'ltkd' has now" in str(*runs.read_store(folder).strangers.values())


def test_of_several_folders_the_first_with_a_run_counts_unless_another_has_it_finished(own_copy, tmp_path):
    for name in ("first", "second"):
        Run.open(LTKD, tmp_path / name).start()
    (found,) = runs.all_runs([tmp_path / "first", tmp_path / "second"])
    assert found.folder.parent.name == "first"
    (found,) = runs.all_runs([tmp_path / "first", own_copy.folder.parent])
    assert found.finished


def test_the_table_of_an_empty_folder_is_empty(tmp_path):
    assert runs.table(tmp_path / "nowhere").empty


def test_the_tables_columns_are_config_options_and_accuracies(store):
    config = {field.name for field in fields(RunConfig)} - {"options"}
    options = {option for method in ("ce", "kd", "ltkd") for option in METHODS[method].options()}
    best = {"best_epoch", *(f"best_{name}" for name in MEASURES)}
    assert set(runs.table(store).columns) == {"run", "answered"} | config | options | set(MEASURES) | best


def test_the_table_holds_the_runs_numbers(finished, store):
    row = runs.table(store).set_index("run").loc[LTKD.name]
    assert row[list(MEASURES)].tolist() == [finished.result["last"][name] for name in MEASURES]
    assert row.best_all == finished.result["best"]["all"]


def test_a_run_on_a_folder_that_has_moved_stays_in_the_table(own_copy, tmp_path):
    record = json.loads((own_copy.folder / "config.json").read_text()) | {"dataset": str(tmp_path / "moved")}
    record["dataset_version"] = "0123456789abcdef"  # as fit stores it
    (own_copy.folder / "config.json").write_text(json.dumps(record))
    other_result(own_copy.folder)
    assert len(runs.table(tmp_path)) == 1


def frame_of(values, **columns):
    """A table of runs that differ in their seeds and have these accuracies."""
    rows = []
    for seed, value in enumerate(values):
        config = digits_config(method="ltkd", seed=seed)
        record = {k: str(v) if isinstance(v, list) else v for k, v in config.to_dict().items() if k != "options"}
        record |= config.options
        rows.append({"run": f"{config.name}-{columns}", **record, **dict.fromkeys(MEASURES, value), **columns})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("values", [[50.0, 52.0], [50.0, 52.0, 57.0], [1.0, 2.0, 4.0, 8.0, 16.0]])
def test_the_summary_is_mean_and_students_interval_over_seeds(values):
    row = runs.summarise(frame_of(values)).iloc[0]
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
    assert (row.seeds, row["all"]) == (len(values), pytest.approx(np.mean(values)))
    assert (row["all"] - row.all_ci, row["all"] + row.all_ci) == pytest.approx((low, high))


def test_one_seed_has_no_interval():
    row = runs.summarise(frame_of([50.0])).iloc[0]
    assert row["all"] == 50
    assert np.isnan(row.all_ci)


def test_a_group_that_is_empty_has_no_mean():
    row = runs.summarise(frame_of([50.0, 60.0]).assign(few_shot=None)).iloc[0]
    assert np.isnan(row.few_shot)
    assert row.many_shot == 55


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "cifar100"},
        {"imbalance_factor": 10.0},
        {"teacher": "resnet110"},
        {"student": "resnet110"},
        {"method": "kd"},
        {"profile": "step"},
        {"epochs": 24},
        {"n_groups": 4},
        {"alpha": 7.0},
    ],
    ids=str,
)
def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(change):
    """What is given as a mean over seeds must be one."""
    assert len(runs.summarise(pd.concat([frame_of([50.0]), frame_of([60.0], **change)]))) == 2


DESIGNS = {  # pairs of subset_seed and seed -> which rows of a summary they give
    "each its own": ([(0, 0), (1, 1), (2, 2)], {"seed": [0, 1, 2]}),
    "one shared": ([(0, 0), (0, 1), (0, 2)], {0: [0, 1, 2]}),
    "shared, and none of its own": ([(5, 0), (5, 1)], {5: [0, 1]}),
    "one run": ([(0, 0)], {"seed": [0]}),
    "another subset than its own": ([(5, 0)], {5: [0]}),
    "crossed": ([(0, 0), (0, 1), (1, 0), (1, 1)], {"seed": [0, 1], 0: [0, 1], 1: [0, 1]}),
    "its own and one more": ([(0, 0), (1, 1), (2, 2), (0, 1)], {"seed": [0, 1, 2], 0: [0, 1]}),
    "one shared and one more of its own": ([(0, 0), (0, 1), (3, 3)], {"seed": [0, 3], 0: [0, 1]}),
}


@pytest.mark.parametrize(("pairs", "rows"), DESIGNS.values(), ids=DESIGNS)
def test_a_summary_averages_seeds_on_a_shared_subset_and_seeds_with_their_own(pairs, rows):
    frame = frame_of([10.0 * seed for _, seed in pairs])
    frame["subset_seed"], frame["seed"] = zip(*pairs, strict=True)
    summary = runs.summarise(frame)
    found = dict(zip(summary.subset_seed, summary["all"], strict=True))
    assert found == {subset: pytest.approx(10 * np.mean(seeds)) for subset, seeds in rows.items()}
    assert dict(zip(summary.subset_seed, summary.seeds, strict=True)) == {k: len(v) for k, v in rows.items()}


def test_the_summary_of_a_store_has_a_row_a_method(store):
    summary = runs.summarise(runs.table(store)).set_index("method")
    assert summary.seeds.to_dict() == {"ce": 2, "kd": 2, "ltkd": 2}


# --- one run, several processes ---


def fit_on_cpu(config, folder):
    return fit(config, runs=folder, device="cpu", progress=False)


def test_a_run_that_another_trains_is_waited_for_and_then_found_finished(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "train_epoch", lambda *_: pytest.fail("trained twice"))
    for before in LTKD.builds_on().values():
        shutil.copytree(finished.folder.parent / before.name, tmp_path / before.name)
    run, found = Run.open(LTKD, tmp_path), []
    with run.claimed():
        run.start()
        other = threading.Thread(target=lambda: found.append(fit_on_cpu(LTKD, tmp_path)))
        other.start()
        said = ""
        while "waiting" not in said and other.is_alive():
            said += capsys.readouterr().err
            time.sleep(0.02)
        shutil.copytree(finished.folder, run.folder, dirs_exist_ok=True)
    other.join(60)
    assert (said + capsys.readouterr().err).count("waiting") == 1
    assert LTKD.name in said
    assert [each.result["last"] for each in found] == [finished.result["last"]]
    assert ".claim" not in {file.name for file in run.folder.iterdir()}


def test_a_teacher_is_trained_before_its_student_is_claimed(tmp_path, monkeypatch):
    claimed, events = Run.claimed, []

    @contextmanager
    def noted(run, meanwhile):
        with claimed(run, meanwhile):
            events.append(f"claims {run.config.method}")
            yield
        events.append(f"frees {run.config.method}")

    monkeypatch.setattr(Run, "claimed", noted)
    fit_on_cpu(digits_config(method="kd", epochs=1), tmp_path)
    assert events == ["claims ce", "frees ce", "claims kd", "frees kd"]


def test_what_was_trained_and_is_not_finished_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "finish", lambda *_: None)
    with pytest.raises(RunError, match=r"result\.json is gone"):
        fit_on_cpu(digits_config(method="ce", epochs=1), tmp_path)
