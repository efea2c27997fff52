"""Exports finished runs to one small file, and imports them on another machine.

The file is a zip of run folders without weights and logits. Each has config.json, result.json, history.parquet without
the teacher's mass per batch (90 % of its size), and test.npz: training images and hits per class and, for up to
MOST_CLASSES classes, the confusion matrix.

The file may come from an untrusted source: `unpack` checks all of it before it writes anything.
"""

import io
import math
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from .. import metrics
from .._support.storage import write_bytes
from ..config import RunConfig
from ..errors import RunError
from .result_file import DIGESTS, check_digest, parse_json, parse_result, problem_of, sealed, to_json
from .run import Run
from .store import all_runs

PARTS = ("config.json", "result.json", "history.parquet", "test.npz")
ARRAYS = {"class_counts": 1, "hits": 1, "confusion": 2}  # array in test.npz: its number of dimensions
MASSES = ("teacher_mass", "rebalanced_mass")
MOST_CLASSES = 200  # the most classes with a confusion matrix, which then has 40,000 numbers
MEMBER, TOTAL = 2**24, 2**30  # bytes: the largest unpacked size of one member, and of a file
EPOCHS, COLUMNS = 10**5, 10**3  # the most rows and columns of a history
ROUNDING = 0.01  # per cent: the largest difference of the accuracies in result.json and test.npz
STAMP = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that the same runs make the same file
Parts = dict[str, bytes]  # the files of one run: {name: content}


def pack(finished: Iterable[Run], file: str | Path) -> tuple[list[str], list[str]]:
    """Export finished runs to a file; a new file is created. Runs that the file already holds do not change.

    Returns the names of the runs that were added, and of those that were there before. Raises RunError, and leaves the
    file as it is, if the file is damaged or cannot be written or if a run cannot be read.
    """
    with _refusing(file):
        there = _folders(file) if Path(file).exists() else {}
    by_name = {run.config.name: run for run in finished}
    added = [name for name in by_name if name not in there]
    for name in added:
        there[name] = _parts(Run(by_name[name].folder, by_name[name].config))  # a copy, to free its arrays afterwards
    if added:
        write_bytes(file, _zipped(there))
    return added, [name for name in by_name if name not in added]


class Imported(NamedTuple):
    """The outcome of an import.

    added: names of the new runs; kept: names of the runs that were in the folder before; differing: kept runs with
    another accuracy in the file, {name: (here, there)}, in per cent over all test images; None: not finished here.
    """

    added: list[str]
    kept: list[str]
    differing: dict[str, tuple[float | None, float]]


def unpack(files: Iterable[str | Path], folder: str | Path) -> Imported:
    """Import the runs of files that `pack` wrote: each becomes a run folder in `folder`.

    Runs that the folder already holds do not change. Raises RunError, and adds no run, if a file is damaged, too large
    or holds anything but runs. Raises RunError if the folder cannot be written.
    """
    folder = Path(folder)
    wanted: dict[str, Parts] = {}
    differing: dict[str, tuple[float | None, float]] = {}
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


def _write(runs: dict[str, Parts], folder: Path) -> None:
    """Write run folders under a temporary name, then rename each: a killed process leaves no incomplete run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".importing-", dir=folder) as new:
            for name, parts in runs.items():
                Path(new, name).mkdir()
                for part, data in parts.items():
                    Path(new, name, part).write_bytes(data)
            os.sync()  # one call for all files
            for name in runs:
                os.rename(Path(new, name), folder / name)
    except OSError as error:
        why = error.strerror or str(error)
        raise RunError(f"cannot write {folder}: {why}; free disk space or choose another --runs folder") from error


# --- reading untrusted files ---


@contextmanager
def _refusing(file: str | Path) -> Iterator[None]:
    """Turn every error into a RunError of one sentence: each file format has its own errors for damaged files."""
    try:
        yield
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise RunError(f"nothing was stored: {file}: {why}; export the runs again to a new file") from error


def _folders(file: str | Path) -> dict[str, Parts]:
    """The parts of each run in a file, by the run's name. Checks names and sizes, not the content."""
    found: dict[str, Parts] = {}
    for name, data in _members(file):
        run, _, part = name.partition("/")
        if part not in PARTS or not run or run.startswith(".") or "\\" in run:
            raise ValueError(f"it holds {name!r}, which is not part of a run")
        found.setdefault(run, {})[part] = data
    for run, parts in found.items():
        if missing := [part for part in PARTS if part not in parts]:
            raise ValueError(f"{run!r} has no {missing[0]}")
    if not found:
        raise ValueError("it holds no runs")
    return found


def _members(file: str | Path | io.BytesIO) -> Iterator[tuple[str, bytes]]:
    """Name and content of each member of a zip file.

    Raises any type of error for a member that `pack` never writes, and for too large members. Counts the unpacked
    bytes, because the sizes that the file states may be wrong.
    """
    seen: set[str] = set()
    left = TOTAL
    with zipfile.ZipFile(file) as packed:
        for info in packed.infolist():
            name = info.filename
            if name in seen:
                raise ValueError(f"it holds {name!r} twice")
            if info.flag_bits & 0x41 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name!r} is encrypted, or not compressed with deflate")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                raise ValueError(f"{name!r} is not an ordinary file")
            with packed.open(info) as member:
                data = member.read(min(MEMBER, left) + 1)
            left -= len(data)
            if len(data) > MEMBER or left < 0:
                raise ValueError(
                    f"it unpacks to more than {MEMBER >> 20} MiB per member, or {TOTAL >> 20} MiB in total"
                )
            seen.add(name)
            yield name, data


def _checked(name: str, parts: Parts) -> float:
    """Check the parts of a run; return its accuracy on all test images, in per cent. Raises any type of error."""
    result = parse_result(parts["result.json"])
    if (found := RunConfig.from_dict(parse_json(parts["config.json"])).name) != name:
        raise ValueError(f"the config.json of {name!r} belongs to another run ({found})")
    if problem := problem_of(result):
        raise ValueError(f"the result.json of {name!r} {problem}")
    for part in PARTS:
        if part != "result.json":
            check_digest(result, part, parts[part])
    _check_history(parts["history.parquet"])
    accuracy: float = result["last"]["all"]
    for score, counted in _check_arrays(parts["test.npz"], len(result.get("class_names", ()))).items():
        stated = result["last"].get(score)
        if stated is not None and not math.isclose(stated, counted or 0.0, abs_tol=ROUNDING):
            raise ValueError(f"{name!r} has {score} {stated:.2f} % in result.json, but {counted:.2f} % in test.npz")
    return accuracy


def _check_history(data: bytes) -> None:
    """Raise an error if a parquet file is not a history of numbers. Checks its unpacked size before reading it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(pa.BufferReader(data))
    about = file.metadata
    size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    if not 0 < about.num_rows <= EPOCHS or about.num_columns > COLUMNS or size > MEMBER:
        raise ValueError(
            f"a history.parquet must have 1 to {EPOCHS} rows, at most {COLUMNS} columns and {MEMBER >> 20} MiB"
        )
    table, types = file.read(use_threads=False), pa.types
    numbers = (types.is_floating(kind) or types.is_integer(kind) or types.is_null(kind) for kind in table.schema.types)
    if "epoch" not in table.column_names or not all(numbers):
        raise ValueError("a history.parquet must hold numbers only, and a column 'epoch'")


def _check_arrays(data: bytes, classes: int) -> dict[str, float | None]:
    """Check a test.npz; return its scores that do not depend on groups, none if it holds no confusion matrix.

    classes: the number of classes; 0: any. Raises any type of error.
    """
    dict(_members(io.BytesIO(data)))  # checks the unpacked size
    arrays = dict(np.load(io.BytesIO(data), allow_pickle=False))
    if not {"class_counts", "hits"} <= set(arrays) <= set(ARRAYS):
        raise ValueError("a test.npz must hold class_counts and hits, may hold confusion, and nothing else")
    classes = classes or len(arrays["hits"])
    for name, array in arrays.items():
        if array.shape != (classes,) * ARRAYS[name] or array.dtype.kind not in "iu" or array.min(initial=0) < 0:
            raise ValueError(f"{name} in test.npz must hold counts for {classes} classes")
    if (confusion := arrays.get("confusion")) is None:
        return {}
    if not confusion.any() or (confusion.diagonal() != arrays["hits"]).any():
        raise ValueError("hits and confusion in test.npz differ, or are empty")
    counts = metrics.Counts(confusion.sum(1), confusion.diagonal(), confusion.sum(0))
    scores = metrics.scores(counts, np.arange(classes))
    return {name: scores[name] for name in ("all", "balanced", "macro_f1")}


# --- writing ---


def _parts(run: Run) -> Parts:
    """The files of a run as they are exported."""
    if not run.has_logits and (run.folder / "test.npz").is_file():  # the run was imported
        return {part: run.read(part) for part in PARTS}
    history = run.read("history.parquet", _without_masses)
    parts = {"config.json": to_json(run.config.to_dict()), "history.parquet": history, "test.npz": _test(run)}
    parts["result.json"] = to_json(sealed(portable(run.result), parts))
    return {part: parts[part] for part in PARTS}


def portable(result: dict[str, Any]) -> dict[str, Any]:
    """A run's result without what has no meaning elsewhere: the folder of its data, and the digests of its files."""
    kept = {key: value for key, value in result.items() if key != DIGESTS}
    return kept | {"source": result["source"].split(" in ")[0]}


def _without_masses(data: bytes) -> bytes:
    """A history.parquet without the group masses per batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, buffer = pq.ParquetFile(pa.BufferReader(data)), pa.BufferOutputStream()
    kept = file.read([name for name in file.schema_arrow.names if name not in MASSES], use_threads=False)
    # The zip compresses all columns, and so few numbers need no dictionaries and no statistics.
    pq.write_table(kept, buffer, compression="none", store_schema=False, use_dictionary=False, write_statistics=False)
    return buffer.getvalue().to_pybytes()


def _test(run: Run) -> bytes:
    """The test.npz of a run that has logits."""
    arrays: dict[str, Any] = {"class_counts": run.class_counts, "hits": run.per_class}
    if len(run.class_counts) <= MOST_CLASSES:
        arrays["confusion"] = run.confusion
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _zipped(runs: dict[str, Parts]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name in sorted(runs):
            for part, data in runs[name].items():
                packed.writestr(zipfile.ZipInfo(f"{name}/{part}", STAMP), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
