"""Packed runs: small files that tables read as they read folders; nothing is replaced, nothing damaged gets in."""

import json
import re
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
from helpers import digits_config

from ltkd import RunError, fit, metrics, runs
from ltkd.reproduce import claims
from ltkd.reproduce.sweep import sweep
from ltkd.runs import archive


@pytest.fixture
def file(store, tmp_path):
    """All runs of the store in a file."""
    archive.pack(runs.all_runs(store), tmp_path / "elsewhere" / "a.zip")
    return tmp_path / "elsewhere" / "a.zip"


def by_name(folder):
    return {run.config.name: run for run in runs.all_runs(folder)}


def names(folder):
    return sorted(by_name(folder))


# --- what is in it ---


def test_tables_read_packed_runs_as_they_read_folders(store, file):
    ours, packed = (runs.table(place).sort_values("run", ignore_index=True) for place in (store, file))
    pd.testing.assert_frame_equal(ours, packed)
    pd.testing.assert_frame_equal(runs.table(file.parent).sort_values("run", ignore_index=True), ours)


def test_claims_say_the_same_of_packed_runs(store, file):
    pd.testing.assert_frame_equal(claims.check(runs.all_runs(store)), claims.check(runs.all_runs(file)))


def test_a_packed_run_has_its_result_and_history_without_masses(store, file):
    for name, run in by_name(store).items():
        packed = by_name(file)[name]
        assert (packed.finished, packed.result, packed.config) == (True, run.result, run.config)
        assert packed.finished_at == pytest.approx(run.finished_at, abs=2)
        kept = [column for column in run.history if not column.endswith("_mass")]
        pd.testing.assert_frame_equal(packed.history, run.history[kept])
        assert np.array_equal(packed.class_counts, run.class_counts)


def test_accuracies_of_classes_and_confusion_come_from_the_logits(store, file):
    name, run = next(iter(by_name(store).items()))
    packed = by_name(file)[name]
    shares = packed.confusion / packed.confusion.sum(1, keepdims=True)
    np.testing.assert_allclose(shares, metrics.confusion(run.logits, run.labels))
    np.testing.assert_allclose(2 * packed.per_class, metrics.per_class_accuracy(run.logits, run.labels))


def test_with_very_many_classes_there_is_no_confusion(store, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_CLASSES", 9)
    archive.pack(runs.all_runs(store)[:1], tmp_path / "a.zip")
    (packed,) = runs.all_runs(tmp_path / "a.zip")
    assert packed.confusion is None
    assert packed.per_class.sum() == round(5 * packed.result["last"]["all"])


def test_it_is_small(store, file):
    assert file.stat().st_size < 8000 * len(names(store))


def test_the_same_runs_make_the_same_file(store, file, tmp_path):
    archive.pack(runs.all_runs(store)[::-1], tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("ask", [lambda run: run.logits, lambda run: run.model(), lambda run: run.labels])
def test_weights_and_logits_are_not_in_it_and_that_is_said(file, ask):
    with pytest.raises(RunError, match=r"is a packed run, which has no (logits\.npz|student\.safetensors); train it"):
        ask(runs.all_runs(file)[0])


# --- adding up ---


def test_files_add_up_and_a_run_that_is_there_stays_as_it_was(store, tmp_path):
    first, second = runs.all_runs(store)[:4], runs.all_runs(store)[2:]
    archive.pack(first, tmp_path / "a.zip")
    for run in first[2:]:
        run.result["last"]["all"] = -1.0  # another machine's rounding
    added, kept = archive.pack(second, tmp_path / "a.zip")
    assert (len(added), sorted(kept)) == (2, sorted(run.config.name for run in first[2:]))
    assert names(tmp_path / "a.zip") == names(store)
    assert runs.table(tmp_path / "a.zip")["all"].min() > 0


def test_merging_leaves_out_what_the_store_has(store, tmp_path):
    for i, part in enumerate((slice(0, 4), slice(2, None))):
        archive.pack(runs.all_runs(store)[part], tmp_path / f"{i}.zip")
    known = [run for run in runs.all_runs(store) if run.config.name == names(store)[0]]
    merged = archive.merge([tmp_path / "0.zip", tmp_path / "1.zip"], tmp_path / "all.zip", known)
    assert (sorted(merged.added), merged.kept, merged.differing) == (names(store)[1:], names(store)[:1], {})
    assert archive.merge([tmp_path / "0.zip"], tmp_path / "all.zip", known).added == []


def test_a_run_that_came_out_differently_elsewhere_is_named_and_ours_stays(store, file, tmp_path):
    known = runs.all_runs(store)
    known[0].result["last"]["all"] -= 1.0  # another machine's rounding
    ours = known[0].result["last"]["all"]
    merged = archive.merge([file], tmp_path / "all.zip", known)
    assert merged.added == [] and merged.differing == {known[0].config.name: (ours, pytest.approx(ours + 1))}


def test_packed_runs_can_be_packed_again(file, tmp_path):
    archive.pack(runs.all_runs(file), tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == file.read_bytes()


def test_a_run_in_a_folder_and_in_a_file_counts_once_and_the_folder_wins(store, tmp_path):
    shutil.copytree(store, tmp_path / "runs")
    archive.pack(runs.all_runs(store), tmp_path / "runs" / "a.zip")
    found = runs.all_runs(tmp_path / "runs")
    assert sorted(run.config.name for run in found) == names(store)
    assert runs.packed_runs(tmp_path / "runs") == []


def test_several_folders_are_one_store(store, file, tmp_path):
    assert sorted(run.config.name for run in runs.all_runs([tmp_path / "nowhere", file, store])) == names(store)


def test_an_unfinished_run_here_gives_way_to_a_finished_one_from_elsewhere(store, tmp_path):
    run = runs.all_runs(store)[0]
    runs.Run.open(run.config, tmp_path).start()
    archive.pack([run], tmp_path / "a.zip")
    assert [found.finished for found in runs.all_runs(tmp_path)] == [True]


# --- training beside packed runs ---


def test_a_sweep_does_not_train_again_what_is_packed_in_its_folder(store, tmp_path):
    config = digits_config(method="kd")
    archive.pack([run for run in runs.all_runs(store) if run.config.id == config.id], tmp_path / "a.zip")
    for jobs in (1, 2):
        finished = sweep([config], jobs=jobs, runs=tmp_path, progress=False, report=lambda line: None)
        assert [run.config.id for run in finished] == [config.id]
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_packed_teacher_cannot_teach_and_is_trained(store, tmp_path):
    archive.pack([run for run in runs.all_runs(store) if run.config.teaches], tmp_path / "a.zip")
    fit(digits_config(method="kd", epochs=1, teacher_epochs=2), runs=tmp_path, device="cpu", progress=False)
    assert digits_config().for_teacher().name in {path.name for path in tmp_path.iterdir()}


# --- damage ---


def rewritten(file, change):
    """The members of a zip, changed by `change(name, bytes) -> (name, bytes)`."""
    with zipfile.ZipFile(file) as old:
        members = [change(name, old.read(name)) for name in old.namelist()]
    with zipfile.ZipFile(file, "w") as new:
        for name, data in members:
            new.writestr(name, data)


def edited(change):
    """For `rewritten`: result.json with another record of the last epoch."""

    def edit(name, data):
        if name.endswith("result.json"):
            result = json.loads(data)
            data = json.dumps(result | {"last": change(result["last"])}).encode()
        return name, data

    return edit


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)


DAMAGES = {
    "no zip": lambda file: file.write_bytes(b"not a zip at all"),
    "empty": lambda file: file.write_bytes(b""),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "a byte": flip,
    "another zip": lambda file: rewritten(file, lambda name, data: (f"other/{name.replace('/', '-')}", data)),
    "config": lambda file: rewritten(file, lambda name, data: (name, b"{" if name.endswith("config.json") else data)),
    "field": lambda file: rewritten(file, lambda name, data: (name, data.replace(b'"momentum"', b'"momentun"'))),
    "renamed": lambda file: rewritten(file, lambda name, data: (f"x{name}", data)),
    "path": lambda file: rewritten(file, lambda name, data: (f"../../{name}", data)),
    "part": lambda file: rewritten(file, lambda name, data: (name.replace("history", "story"), data)),
    "history": lambda file: rewritten(file, lambda name, data: (name, b"PAR1" if "history" in name else data)),
    "no accuracy": lambda file: rewritten(file, lambda name, data: (name, data.replace(b'"last"', b'"lost"'))),
    "words": lambda file: rewritten(file, edited(lambda last: last | {"all": "many"})),
    "too much": lambda file: rewritten(file, edited(lambda last: last | {"all": 250.0})),
    "a group": lambda file: rewritten(file, edited(lambda last: last | {"head": "x"})),
    "no last": lambda file: rewritten(file, edited(lambda last: None)),
    "no date": lambda file: rewritten(
        file, lambda name, data: (name, data.replace(b'"finished": "', b'"finished": "at '))
    ),
    "a list": lambda file: rewritten(file, lambda name, data: (name, b"[]" if name.endswith("result.json") else data)),
    "not its own": lambda file: rewritten(file, edited(lambda last: last | {"all": last["all"] / 2 + 1})),
    "folder": lambda file: (file.unlink(), file.mkdir()),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_adds_nothing_and_is_one_sentence(file, tmp_path, damage):
    DAMAGES[damage](file)
    with pytest.raises(RunError) as error:
        archive.merge([file], tmp_path / "all.zip")
    assert re.search(r"a\.zip", str(error.value))
    assert "\n" not in str(error.value)
    assert "nothing was stored" in str(error.value)
    assert not (tmp_path / "all.zip").exists()


@pytest.mark.parametrize("add", [lambda file, to: archive.merge([file], to), lambda _, to: archive.pack([], to)])
def test_a_damaged_file_that_is_to_be_added_to_stays_and_is_to_be_moved_away(file, tmp_path, add):
    (tmp_path / "all.zip").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"Move .*all\.zip away"):
        add(file, tmp_path / "all.zip")
    assert (tmp_path / "all.zip").read_bytes() == b"PK"


def test_a_damaged_file_beside_good_runs_is_passed_over_and_named(store, tmp_path):
    shutil.copytree(store, tmp_path, dirs_exist_ok=True)
    (tmp_path / "bad.zip").write_bytes(b"PK")
    assert len(runs.table(tmp_path)) == len(names(store))
    assert [path.name for path in runs.strangers(tmp_path)] == ["bad.zip"]


def test_where_the_data_lay_stays_behind():
    result = {"source": "parquet files in somebody/s/data", "seconds": 1.0}
    assert archive.portable(result) == {"source": "parquet files", "seconds": 1.0}
