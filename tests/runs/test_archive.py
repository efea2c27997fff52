"""Exported and imported runs: tables read them as they read any run; nothing is replaced, nothing damaged gets in."""

import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import digits_config, other_result

from ltkd import Run, RunError, fit, metrics, runs
from ltkd.datasets import load
from ltkd.reproduce import claims
from ltkd.reproduce.sweep import sweep
from ltkd.runs import archive


@pytest.fixture
def file(store, tmp_path):
    """All runs of the store in a file."""
    archive.pack(runs.all_runs(store), tmp_path / "elsewhere" / "a.zip")
    return tmp_path / "elsewhere" / "a.zip"


@pytest.fixture
def imported(file, tmp_path):
    """A folder that the file was imported into."""
    archive.unpack([file], tmp_path / "imported")
    return tmp_path / "imported"


def by_name(folder):
    return {run.config.name: run for run in runs.all_runs(folder)}


def names(folder):
    return sorted(by_name(folder))


def snapshot(folder):
    """{path: bytes} of all files below a folder, hidden ones too."""
    return {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


# --- what comes across ---


def test_the_table_of_imported_runs_is_that_of_the_exported_ones(store, imported):
    ours, theirs = (runs.table(place).sort_values("run", ignore_index=True) for place in (store, imported))
    pd.testing.assert_frame_equal(ours, theirs)
    assert len(ours) == 6


def test_claims_say_the_same_of_imported_runs(store, imported):
    pd.testing.assert_frame_equal(claims.check(runs.all_runs(store)), claims.check(runs.all_runs(imported)))


def test_an_imported_run_is_an_ordinary_folder_without_weights_and_logits(store, imported):
    for name, run in by_name(store).items():
        theirs = by_name(imported)[name]
        assert {path.name for path in theirs.folder.iterdir()} == set(archive.PARTS)
        assert (theirs.finished, theirs.has_weights, theirs.has_logits) == (True, False, False)
        assert (archive.portable(theirs.result), theirs.config) == (archive.portable(run.result), run.config)
        kept = [column for column in run.history if not column.endswith("_mass")]
        pd.testing.assert_frame_equal(theirs.history, run.history[kept])
        assert np.array_equal(theirs.class_counts, run.class_counts)


def test_accuracies_of_classes_and_confusion_are_those_of_the_logits(store, imported):
    name, run = next(iter(by_name(store).items()))
    for each in (run, by_name(imported)[name]):
        shares = each.confusion / each.confusion.sum(1, keepdims=True)
        np.testing.assert_allclose(shares, metrics.confusion(run.logits, run.labels))
        np.testing.assert_allclose(2 * each.per_class, metrics.per_class_accuracy(run.logits, run.labels))


def test_with_very_many_classes_there_is_no_confusion(store, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_CLASSES", 9)
    archive.pack(runs.all_runs(store)[:1], tmp_path / "a.zip")
    archive.unpack([tmp_path / "a.zip"], tmp_path / "there")
    (run,) = runs.all_runs(tmp_path / "there")
    assert run.per_class.sum() == round(5 * run.result["last"]["all"])
    with pytest.raises(RunError, match="no confusion of so many classes"):
        _ = run.confusion


def test_it_is_small(store, file):
    assert file.stat().st_size < 6000 * len(names(store))


def test_the_same_runs_make_the_same_file_also_from_imported_ones(store, file, imported, tmp_path):
    archive.pack(runs.all_runs(store)[::-1], tmp_path / "b.zip")
    archive.pack(runs.all_runs(imported), tmp_path / "c.zip")
    assert (tmp_path / "b.zip").read_bytes() == file.read_bytes() == (tmp_path / "c.zip").read_bytes()


@pytest.mark.parametrize("ask", [lambda run: run.logits, lambda run: run.model(), lambda run: run.labels])
def test_weights_and_logits_do_not_come_across_and_that_is_said(imported, ask):
    with pytest.raises(RunError, match=r"(logits\.npz|student\.safetensors) is missing.*train this run here"):
        ask(runs.all_runs(imported)[0])


def test_where_the_data_lay_stays_behind():
    result = {"source": "parquet files in somebody/s/data", "seconds": 1.0}
    assert archive.portable(result) == {"source": "parquet files", "seconds": 1.0}


# --- adding up ---


def with_accuracy(folder, accuracy):
    """As if the run in this folder had come out differently."""
    other_result(folder, last=lambda last: last | {"all": accuracy})


def test_files_add_up_and_a_run_that_is_in_one_stays_as_it_was(store, tmp_path):
    mine = shutil.copytree(store, tmp_path / "mine")
    first, second = names(store)[:4], names(store)[2:]
    archive.pack([run for run in runs.all_runs(store) if run.config.name in first], tmp_path / "a.zip")
    for name in first:
        with_accuracy(mine / name, 1.0)
    added, kept = archive.pack([run for run in runs.all_runs(mine) if run.config.name in second], tmp_path / "a.zip")
    assert (sorted(added), sorted(kept)) == (names(store)[4:], names(store)[2:4])
    archive.unpack([tmp_path / "a.zip"], tmp_path / "there")
    pd.testing.assert_frame_equal(runs.table(tmp_path / "there"), runs.table(store))


def test_an_import_on_top_of_runs_that_are_there_adds_the_others(store, tmp_path):
    for i, part in enumerate((slice(0, 4), slice(2, None))):
        archive.pack(runs.all_runs(store)[part], tmp_path / f"{i}.zip")
    mine = shutil.copytree(store / names(store)[0], tmp_path / "mine" / names(store)[0])
    before = snapshot(mine)
    merged = archive.unpack([tmp_path / "0.zip", tmp_path / "1.zip"], tmp_path / "mine")
    assert (sorted(merged.added), merged.kept, merged.differing) == (names(store)[1:], names(store)[:1], {})
    assert snapshot(mine) == before and names(tmp_path / "mine") == names(store)
    assert archive.unpack([tmp_path / "0.zip"], tmp_path / "mine").added == []


def test_a_run_that_came_out_differently_elsewhere_is_named_and_ours_stays(store, file, tmp_path):
    mine, name = shutil.copytree(store, tmp_path / "mine"), names(store)[0]
    there = Run.load(mine / name).result["last"]["all"]
    with_accuracy(mine / name, 1.0)
    merged = archive.unpack([file], mine)
    assert merged.added == [] and merged.differing == {name: (1.0, there)}
    assert Run.load(mine / name).result["last"]["all"] == 1.0


def test_an_unfinished_run_stays_and_is_named(store, file, tmp_path):
    run = runs.all_runs(store)[0]
    Run.open(run.config, tmp_path / "mine").start()
    merged = archive.unpack([file], tmp_path / "mine")
    assert len(merged.added) == 5 and merged.kept == [run.config.name]
    assert merged.differing == {run.config.name: (None, run.result["last"]["all"])}
    assert not Run.open(run.config, tmp_path / "mine").finished


def test_several_folders_are_one_store(store, imported, tmp_path):
    found = runs.all_runs([tmp_path / "nowhere", store, imported])
    assert sorted(run.config.name for run in found) == names(store)
    assert all(run.has_weights for run in found)


def test_a_file_in_place_of_a_folder_or_in_one_is_to_be_imported(file, store, tmp_path):
    with pytest.raises(RunError, match="runs --import"):
        runs.all_runs(file)
    shutil.copytree(store, tmp_path, dirs_exist_ok=True)
    shutil.copy(file, tmp_path / "a.zip")
    ((path, why),) = runs.read_store(tmp_path).strangers.items()
    assert path.name == "a.zip" and "runs --import" in str(why)
    assert names(tmp_path) == names(store)


# --- training beside imported runs ---


def test_a_sweep_does_not_train_again_what_was_imported(imported):
    config, before = digits_config(method="kd"), snapshot(imported)
    for jobs in (1, 2):
        finished = sweep([config], jobs=jobs, runs=imported, progress=False, report=lambda line: None)
        assert [run.config.id for run in finished] == [config.id]
    assert fit(config, runs=imported, device="cpu", progress=False).result == Run.open(config, imported).result
    assert snapshot(imported) == before


def test_an_imported_teacher_is_trained_when_it_has_to_teach_and_is_a_whole_run_then(imported):
    teacher = digits_config().for_teacher()
    student = digits_config(method="kd", epochs=1, teacher_epochs=2)
    assert student.for_teacher().id == teacher.id
    lines = []
    sweep([teacher, student], runs=imported, device="cpu", progress=False, report=lines.append)
    assert len(lines) == 2  # one a run that was asked for
    folder = Run.open(teacher, imported).folder
    whole = {"config.json", "history.parquet", "logits.npz", "result.json", "student.safetensors"}
    assert {path.name for path in folder.iterdir()} == whole
    assert Run.load(folder).has_weights and Run.load(folder).logits.shape == (500, 10)


def test_weights_are_trained_where_they_are_asked_for(store, imported):
    config = digits_config(method="kd")
    run = fit(config, runs=imported, device="cpu", progress=False, weights=True)
    assert run.has_weights and run.result == Run.load(run.folder).result
    np.testing.assert_array_equal(run.logits, Run.open(config, store).logits)
    np.testing.assert_allclose(run.predict(load("digits").test.images), run.logits, atol=1e-5)


# --- damaged and hostile files ---


def written(file, members):
    """A zip of these (name or ZipInfo, bytes)."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in members:
            new.writestr(name, data)


def rewritten(change):
    """The members of a zip, each replaced by the list `change(name, data)`."""

    def rewrite(file):
        with zipfile.ZipFile(file) as old:
            members = [(name, old.read(name)) for name in old.namelist()]
        written(file, [new for name, data in members for new in change(name, data)])

    return rewrite


def part(which, change):
    """One part of the runs, its bytes changed."""
    return rewritten(lambda name, data: [(name, change(data) if name.endswith(which) else data)])


def record(which, **changes):
    """Fields of a JSON part replaced."""
    return part(which, lambda data: json.dumps(json.loads(data) | changes).encode())


def last(**changes):
    """Accuracies of the last epoch replaced."""
    return part(
        "result.json",
        lambda data: json.dumps((found := json.loads(data)) | {"last": found["last"] | changes}).encode(),
    )


def without_digests(file):
    """As an older version, or somebody hostile, writes it."""
    plain = lambda found: {key: value for key, value in found.items() if key != "digests"}  # noqa: E731
    part("result.json", lambda data: json.dumps(plain(json.loads(data))).encode())(file)


def with_member(name, data=b"", **attributes):
    """One more member."""

    def add(file):
        info = zipfile.ZipInfo(name)
        for key, value in attributes.items():
            setattr(info, key, value)
        with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(info, data)

    return add


def arrays(change):
    """The arrays of test.npz changed."""

    def edit(data):
        buffer = io.BytesIO()
        np.savez(buffer, **change(dict(np.load(io.BytesIO(data)))))
        return buffer.getvalue()

    return part("test.npz", edit)


def parquet(table, **options):
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer, **options)
    return buffer.getvalue()


def flip(place):
    """place: of the byte, as a share of the file, or counted from its end."""

    def flipped(file):
        data = bytearray(file.read_bytes())
        data[int(len(data) * place) if place > 0 else place] ^= 255
        file.write_bytes(data)

    return flipped


def bit_of_every_header(offset_local, offset_central, value):
    """A field of the local and of the central headers of all members."""

    def edit(file):
        data = bytearray(file.read_bytes())
        for magic, offset in ((b"PK\3\4", offset_local), (b"PK\1\2", offset_central)):
            start = data.find(magic)
            while start >= 0:
                data[start + offset] = value
                start = data.find(magic, start + 4)
        file.write_bytes(data)

    return edit


def lying_array(data):
    """An .npz whose first array says that it holds 2**40 numbers."""
    buffer = io.BytesIO()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i4", "fortran_order": False, "shape": (2**40,)})
    written(buffer, [("class_counts.npy", header.getvalue()), ("hits.npy", header.getvalue())])
    return buffer.getvalue()


def bomb(data):
    """An .npz of 300 MB of zeros."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, class_counts=np.zeros(10, int), hits=np.zeros(300 * 2**20, np.int8))
    return buffer.getvalue()


DEEP = b'{"last": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
DAMAGES = {
    "no zip": lambda file: file.write_bytes(b"not a zip at all"),
    "empty": lambda file: file.write_bytes(b""),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "a byte in the middle": flip(0.5),
    "the mark of the end": flip(-22),
    "no members": lambda file: written(file, []),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "gone": lambda file: file.unlink(),
    "encrypted": bit_of_every_header(6, 8, 1),
    "unknown compression": bit_of_every_header(8, 10, 99),
    "bzip2": with_member("x/config.json", compress_type=zipfile.ZIP_BZIP2),
    "another zip": rewritten(lambda name, data: [(f"other/{name.replace('/', '-')}", data)]),
    "above the folder": rewritten(lambda name, data: [(f"../../{name}", data)]),
    "one above": with_member("../config.json"),
    "absolute": with_member("/etc/config.json"),
    "no folder": with_member("/config.json"),
    "backslash": with_member("..\\..\\x/config.json"),
    "hidden": with_member(".importing-x/config.json"),
    "a folder's entry": with_member("x/"),
    "deeper": with_member("x/y/config.json"),
    "another file": with_member("x/student.safetensors"),
    "symbolic link": with_member("x/config.json", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16),
    "twice": rewritten(lambda name, data: [(name, data), (name, data)]),
    "a part is missing": rewritten(lambda name, data: [] if "history" in name else [(name, data)]),
    "a large member": part("config.json", lambda data: data + b" " * archive.MEMBER),
    "config cut off": part("config.json", lambda data: b"{"),
    "config of another version": part("config.json", lambda data: data.replace(b'"momentum"', b'"momentun"')),
    "config is a list": part("config.json", lambda data: b"[]"),
    "config of a folder that is to be read": record("config.json", dataset="/", dataset_version=None),
    "config out of range": record("config.json", epochs=10**400),
    "config of an unknown method": record("config.json", method="unheard-of"),
    "config of another run": record("config.json", seed=77),
    "run renamed": rewritten(lambda name, data: [(f"x{name}", data)]),
    "deep": part("result.json", lambda data: DEEP),
    "result is a list": part("result.json", lambda data: b"[]"),
    "result is no text": part("result.json", lambda data: b"\xff\xfe\0"),
    "no last": part("result.json", lambda data: data.replace(b'"last"', b'"lost"')),
    "last is null": record("result.json", last=None),
    "best is a number": record("result.json", best=3),
    "accuracy is true": last(all=True),
    "accuracy is null": last(all=None),
    "accuracy is a word": last(all="many"),
    "accuracy is not a number": last(all=float("nan")),
    "accuracy of a group is infinite": last(head=float("inf")),
    "accuracy of a group is a word": last(head="x"),
    "accuracy is too much": last(all=250.0),
    "accuracy is not that of the confusion": last(all=99.99),
    "balanced accuracy is not that of the confusion": last(balanced=99.99),
    "F1 is not that of the confusion": last(macro_f1=99.99),
    "name is a number": record("result.json", name=3),
    "fingerprint is a list": record("result.json", train_fingerprint=["x"]),
    "class names are a number": record("result.json", class_names=3),
    "history is cut off": part("history.parquet", lambda data: b"PAR1"),
    "history of words": part("history.parquet", lambda data: parquet({"epoch": ["first"]})),
    "history without epochs": part("history.parquet", lambda data: parquet({"loss": [1.0]})),
    "history without rows": part("history.parquet", lambda data: parquet({"epoch": pa.array([], pa.int64())})),
    "history without end": part("history.parquet", lambda data: parquet({"epoch": np.zeros(10**7, int)})),
    "arrays are cut off": part("test.npz", lambda data: data[:-30]),
    "arrays are pickled": arrays(lambda found: found | {"hits": np.array([{}] * 10, object)}),
    "arrays are fractions": arrays(lambda found: found | {"hits": found["hits"] / 2}),
    "arrays are negative": arrays(lambda found: found | {"class_counts": -found["class_counts"]}),
    "arrays of another shape": arrays(lambda found: found | {"hits": found["hits"][:-1]}),
    "arrays disagree": arrays(lambda found: found | {"hits": found["hits"][::-1]}),
    "no such arrays": arrays(lambda found: {"logits": found["hits"]}),
    "arrays lie about their size": part("test.npz", lying_array),
    "arrays are a bomb": part("test.npz", bomb),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_hostile_file_adds_nothing_and_is_one_sentence(store, tmp_path, damage):
    good, bad, mine = tmp_path / "good.zip", tmp_path / "bad.zip", tmp_path / "mine"
    archive.pack(runs.all_runs(store)[:2], good)
    archive.pack(runs.all_runs(store)[2:4], bad)
    without_digests(bad)
    DAMAGES[damage](bad)
    shutil.copytree(store / names(store)[5], mine / names(store)[5])
    before = snapshot(tmp_path)
    started = time.process_time()
    with pytest.raises(RunError) as error:
        archive.unpack([good, bad], mine)
    assert re.search(r"nothing was stored: .*bad\.zip: ", str(error.value))
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    assert snapshot(tmp_path) == before
    assert time.process_time() - started < 5


def test_a_file_of_an_older_version_without_digests_is_imported(store, file, tmp_path):
    without_digests(file)
    archive.unpack([file], tmp_path / "mine")
    pd.testing.assert_frame_equal(runs.table(tmp_path / "mine"), runs.table(store))


@pytest.mark.parametrize("which", ["history.parquet", "test.npz"])
def test_a_part_of_another_run_is_refused(file, tmp_path, which):
    with zipfile.ZipFile(file) as packed:
        other = packed.read([name for name in packed.namelist() if name.endswith(which)][-1])
    part(which, lambda data: other)(file)
    with pytest.raises(RunError, match=r"nothing was stored: .*its content is not what was stored with the result"):
        archive.unpack([file], tmp_path / "mine")


def test_all_members_together_may_not_be_too_large_either(file, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "TOTAL", 10_000)
    with pytest.raises(RunError, match="unpacks to more than"):
        archive.unpack([file], tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_a_file_that_is_to_be_added_to_and_is_damaged_stays_as_it_is(store, tmp_path):
    (tmp_path / "all.zip").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"all\.zip: .*to a new file"):
        archive.pack(runs.all_runs(store), tmp_path / "all.zip")
    assert (tmp_path / "all.zip").read_bytes() == b"PK"


def test_a_run_that_cannot_be_read_is_not_exported_and_the_file_stays(store, tmp_path):
    mine = shutil.copytree(store, tmp_path / "mine")
    (mine / names(store)[3] / "history.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"history\.parquet is damaged"):
        archive.pack(runs.all_runs(mine), tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(file, tmp_path):
    (tmp_path / "mine").write_text("no folder")
    with pytest.raises(RunError, match=r"cannot write .*mine/runs: Not a directory"):
        archive.unpack([file], tmp_path / "mine" / "runs")


# --- each run stands alone ---

FOLDER_DAMAGES = {
    "config cut off": ("config.json", b"{"),
    "config is deep": ("config.json", DEEP),
    "config is a number": ("config.json", b"3"),
    "config out of range": ("config.json", b'{"epochs": 1' + b"0" * 400 + b"}"),
    "result cut off": ("result.json", b'{"last": {'),
    "result is deep": ("result.json", DEEP),
    "accuracy is true": ("result.json", b'{"last": {"all": true}, "best": {"all": true}}'),
    "last is a number": ("result.json", b'{"last": 3, "best": 4}'),
    "name is a number": ("result.json", b'{"last": {"all": 1}, "best": {"all": 1}, "name": 3}'),
}


@pytest.mark.parametrize("damage", FOLDER_DAMAGES)
def test_a_damaged_folder_is_named_and_hides_no_other_run(store, tmp_path, damage):
    mine, (which, data) = shutil.copytree(store, tmp_path / "mine"), FOLDER_DAMAGES[damage]
    damaged = mine / names(store)[2]
    (damaged / which).write_bytes(data)
    assert sorted(runs.table(mine).run) == [name for name in names(store) if name != damaged.name]
    ((path, why),) = runs.read_store(mine).strangers.items()
    assert path == damaged and which in str(why) and "\n" not in str(why)


# --- kills ---

KILLED = """
import os, sys
from ltkd.runs import archive
calls = 0
def at_most(function):
    def limited(*arguments):
        global calls
        calls += 1
        if calls > int(sys.argv[3]):
            os._exit(9)
        return function(*arguments)
    return limited
archive.os.rename = at_most(os.rename)
archive.Path.write_bytes = at_most(archive.Path.write_bytes)
archive.unpack([sys.argv[1]], sys.argv[2])
"""


@pytest.mark.parametrize("at", [0, 1, 13, 24, 26, 29])
def test_a_kill_in_the_middle_of_an_import_leaves_whole_runs_only(store, file, tmp_path, at):
    """24 files are written, then six folders renamed."""
    mine = tmp_path / "mine"
    killed = subprocess.run([sys.executable, "-c", KILLED, file, mine, str(at)], env=os.environ, timeout=120)
    assert killed.returncode == 9
    found, strangers = runs.read_store(mine)
    assert not strangers and len(found) == max(0, at - 24)
    for run in found:
        assert len(run.history) == 2 and run.confusion.sum() == 500
    archive.unpack([file], mine)
    pd.testing.assert_frame_equal(runs.table(mine), runs.table(store))
