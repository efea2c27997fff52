"""Finished runs in one small file, to carry them from machine to machine.

The file is a zip of ordinary run folders without weights and logits: config.json, result.json, history.parquet without
the teacher's mass in every batch (nine tenths of its size), and test.npz, which holds the training images of each
class, the test images that were classified correctly and, up to MOST_CLASSES classes, the whole confusion.

Such a file may come from anybody. `unpack` checks every byte of it before it writes the first one.
"""

import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from .._support.storage import write_bytes
from ..config import RunConfig
from ..errors import RunError
from .run import Run, parse_json, problem_of
from .store import all_runs

PARTS = ("config.json", "result.json", "history.parquet", "test.npz")
ARRAYS = {"class_counts": 1, "hits": 1, "confusion": 2}  # dimensions in test.npz
MASSES = ("teacher_mass", "rebalanced_mass")
MOST_CLASSES = 200  # with a confusion matrix: 40,000 small numbers
MEMBER, TOTAL = 2**24, 2**30  # bytes: the largest unpacked size of one member, and of a file
EPOCHS, COLUMNS = 10**5, 10**3  # the most of a history
ROUNDING = 0.01  # per cent, between a result and the confusion beside it
STAMP = (1980, 1, 1, 0, 0, 0)  # zip's first date, so that the same runs make the same file


def pack(finished: Iterable[Run], file: str | Path) -> tuple[list[str], list[str]]:
    """Add finished runs to a file, which is made if it is not there. A run that is in it already stays as it is.

    Returns the names of the runs that were added, and of those that were in the file before. Raises RunError if the
    file is damaged or cannot be written, or a part of a run cannot be read; then the file stays as it was.
    """
    with _refusing(file):
        there = _folders(file) if Path(file).exists() else {}
    finished = {run.config.name: run for run in finished}
    added = [name for name in finished if name not in there]
    for name in added:
        there[name] = _parts(Run(finished[name].folder, finished[name].config))  # one that lets its arrays go
    if added:
        write_bytes(file, _zipped(there))
    return added, [name for name in finished if name not in added]


class Imported(NamedTuple):
    """Names of the runs that were added, and of those that were in the folder before; and the latter's accuracies where
    they differ: {name: (here, there)}, of all test images, in per cent; here is None if the run is not finished."""

    added: list[str]
    kept: list[str]
    differing: dict[str, tuple[float | None, float]]


def unpack(files: Iterable[str | Path], folder: str | Path) -> Imported:
    """Add the runs of files that `pack` wrote to a folder of runs, each as a folder of its own.

    A run that is there stays as it is. Raises RunError in one sentence if any file is damaged, holds something else
    than runs, or is too large, or if the folder cannot be written; no run is added if a file is at fault.
    """
    folder, wanted, differing = Path(folder), {}, {}
    accuracies = {run.config.name: run.result["last"]["all"] for run in all_runs(folder) if run.finished}
    for file in files:
        with _refusing(file):
            for name, parts in _folders(file).items():
                there = _checked(name, parts)
                here = accuracies.get(name, None if (folder / name).exists() else there)
                if here != there:
                    differing[name] = here, there
                accuracies.setdefault(name, here)
                wanted.setdefault(name, parts)
    kept = [name for name in wanted if (folder / name).exists()]
    added = {name: parts for name, parts in wanted.items() if name not in kept}
    if added:
        _write(added, folder)
    return Imported(list(added), kept, differing)


def _write(runs, folder):
    """Write run folders under a temporary name, then rename each: a kill leaves only whole runs."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".importing-", dir=folder) as new:
            for name, parts in runs.items():
                Path(new, name).mkdir()
                for part, data in parts.items():
                    Path(new, name, part).write_bytes(data)
            os.sync()  # once for all files
            for name in runs:
                os.rename(Path(new, name), folder / name)
    except OSError as error:
        why = error.strerror or error
        raise RunError(f"cannot write {folder}: {why}; make room or choose another --runs folder") from error


# --- reading what may be hostile ---


@contextmanager
def _refusing(file):
    """Turn every error into a RunError of one sentence: each format has its own errors for what is damaged."""
    try:
        yield
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise RunError(f"nothing was stored: {file}: {why}; export the runs again to a new file") from error


def _folders(file):
    """{name of a run: {part: bytes}} of a file of runs, whose names and sizes are checked, but not what is inside."""
    found = {}
    for name, data in _members(file):
        run, _, part = name.partition("/")
        if part not in PARTS or not run or run.startswith(".") or "\\" in run:
            raise ValueError(f"it holds {name!r}, which is no part of a run")
        found.setdefault(run, {})[part] = data
    for run, parts in found.items():
        if missing := [part for part in PARTS if part not in parts]:
            raise ValueError(f"{run!r} has no {missing[0]}")
    if not found:
        raise ValueError("it holds no runs")
    return found


def _members(file) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of each member of a zip. Raises an error of any kind for what `pack` never writes, and as soon as a
    member or all together are larger than allowed, whatever size the file states."""
    seen, left = set(), TOTAL
    with zipfile.ZipFile(file) as packed:
        for info in packed.infolist():
            name = info.filename
            if name in seen:
                raise ValueError(f"it holds {name!r} twice")
            if info.flag_bits & 0x41 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name!r} is encrypted, or compressed in another way than deflate")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                raise ValueError(f"{name!r} is no ordinary file")
            with packed.open(info) as member:
                data = member.read(min(MEMBER, left) + 1)
            left -= len(data)
            if len(data) > MEMBER or left < 0:
                raise ValueError(f"it unpacks to more than {MEMBER >> 20} MiB a member, or {TOTAL >> 20} MiB in all")
            seen.add(name)
            yield name, data


def _checked(name, parts):
    """The accuracy on all test images of a run that comes from elsewhere, if all its parts are sound and agree. Raises
    an error of any kind."""
    result = parse_json(parts["result.json"])
    if (found := RunConfig.from_dict(parse_json(parts["config.json"])).name) != name:
        raise ValueError(f"the config.json of {name!r} is that of another run ({found})")
    if problem := problem_of(result):
        raise ValueError(f"the result.json of {name!r} {problem}")
    _check_history(parts["history.parquet"])
    accuracy, told = result["last"]["all"], _check_arrays(parts["test.npz"], len(result.get("class_names", ())))
    if told is not None and not math.isclose(accuracy, told, abs_tol=ROUNDING):
        raise ValueError(f"{name!r} has {accuracy:.2f} % in result.json, but {told:.2f} % in test.npz")
    return accuracy


def _check_history(data):
    """Raise unless a parquet file is a history of numbers; its size is looked at before it is read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(data))
    about = file.metadata
    size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    if not 0 < about.num_rows <= EPOCHS or about.num_columns > COLUMNS or size > MEMBER:
        raise ValueError(f"a history.parquet has no epochs, or more than {EPOCHS}, or {COLUMNS} columns")
    table, types = file.read(use_threads=False), pa.types
    numbers = (types.is_floating(kind) or types.is_integer(kind) or types.is_null(kind) for kind in table.schema.types)
    if "epoch" not in table.column_names or not all(numbers):
        raise ValueError("a history.parquet holds something else than numbers, or no epochs")


def _check_arrays(data, classes):
    """The accuracy in per cent that a test.npz amounts to, None if it has no confusion. Raises unless its arrays have
    the shapes of so many classes (any number if 0)."""
    dict(_members(io.BytesIO(data)))  # not too large
    arrays = dict(np.load(io.BytesIO(data), allow_pickle=False))
    if not {"class_counts", "hits"} <= set(arrays) <= set(ARRAYS):
        raise ValueError(f"a test.npz must hold {', '.join(ARRAYS)}")
    classes = classes or len(arrays["hits"])
    for name, array in arrays.items():
        if array.shape != (classes,) * ARRAYS[name] or array.dtype.kind not in "iu" or array.min(initial=0) < 0:
            raise ValueError(f"{name} in test.npz must hold counts of {classes} classes")
    if (confusion := arrays.get("confusion")) is None:
        return None
    if not confusion.any() or (confusion.diagonal() != arrays["hits"]).any():
        raise ValueError("hits and confusion in test.npz differ, or are empty")
    return 100 * confusion.trace() / confusion.sum()


# --- writing ---


def _parts(run):
    """The files of a run as they are packed: {part: bytes}."""
    if not run.has_logits and (run.folder / "test.npz").is_file():  # imported before
        return {part: run.read(part) for part in PARTS}
    history = run.read("history.parquet", _without_masses)
    parts = _json(run.config.to_dict()), _json(portable(run.result)), history, _test(run)
    return dict(zip(PARTS, parts, strict=True))


def portable(result: dict) -> dict:
    """A run's result without the folder that its data were found in, which means nothing elsewhere."""
    return result | {"source": result["source"].split(" in ")[0]}


def _json(record):
    return (json.dumps(record, indent=1) + "\n").encode()


def _without_masses(data):
    """The history without the masses of its batches, as parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, buffer = pq.ParquetFile(pa.BufferReader(data)), pa.BufferOutputStream()
    kept = file.read([name for name in file.schema_arrow.names if name not in MASSES], use_threads=False)
    # Columns of a few hundred numbers need neither dictionaries nor statistics, and the zip compresses all of them.
    pq.write_table(kept, buffer, compression="none", store_schema=False, use_dictionary=False, write_statistics=False)
    return buffer.getvalue().to_pybytes()


def _test(run):
    """test.npz of a run that has logits."""
    arrays = {"class_counts": run.class_counts, "hits": run.per_class}
    if len(run.class_counts) <= MOST_CLASSES:
        arrays["confusion"] = run.confusion
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _zipped(runs):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name in sorted(runs):
            for part, data in runs[name].items():
                packed.writestr(zipfile.ZipInfo(f"{name}/{part}", STAMP), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
