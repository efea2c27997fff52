"""Finished runs in one small file, to be carried from machine to machine: what came out of them, not what they are.

The file is a zip with a folder a run: config.json, result.json, history.parquet without the teacher's mass in every
batch (nine tenths of its size), and test.npz: the training images of each class, the test images that were told right,
and, up to so many classes, the whole confusion. `runs.table` and all that reads its rows take such files as they take
folders; see `runs.PackedRun`.
"""

import io
import json
import math
import zipfile
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._support.storage import write_bytes
from ..errors import RunError
from . import REPORTED, PackedRun, unpacked

PARTS = ("config.json", "result.json", "history.parquet", "test.npz")
MASSES = ("teacher_mass", "rebalanced_mass")
MOST_CLASSES = 200  # with a confusion matrix: 40,000 small numbers
ROUNDING = 0.01  # per cent, between a result and the confusion beside it
STAMP = (1980, 1, 1, 0, 0, 0)  # zip's first date, so that the same runs make the same file


def pack(finished, file):
    """Add finished runs to a file, which is made if it is not there. A run that is in it already stays as it is.

    Returns the names of the runs that were added, and of those that were in the file before.
    """
    file = Path(file)
    there = _there(file)
    added, kept = [], []
    for run in finished:
        name = run.config.name
        (kept if name in there else added).append(name)
        if name not in there:
            there[name] = _parts(run)
    if added:
        write_bytes(file, _zipped(there))
    return added, kept


class Merged(NamedTuple):
    """Names of the runs that were added and of those that were there before; and of the latter those that came out
    differently elsewhere: {name: (accuracy here, accuracy there)}, of all test images, in per cent."""

    added: list
    kept: list
    differing: dict


def merge(sources, file, known=()):
    """Add the runs of other files to `file`, made if it is not there: Merged. known: finished runs that the store has,
    which are not added.

    A run that is there stays as it is. Raises RunError for a file that is damaged, or is none of packed runs; nothing
    is added then.
    """
    there = _there(Path(file))
    before = {name: json.loads(parts["result.json"]) for name, parts in there.items()}
    before |= {run.config.name: run.result for run in known}
    added, kept, differing = {}, [], {}
    for source in sources:
        if not Path(source).is_file():
            raise RunError(f"nothing was stored: {source} is not there; give a file that `--export` wrote")
        for name, parts in _contents(source).items():
            here, elsewhere = before.get(name), json.loads(parts["result.json"])
            if here is None:
                added[name], before[name] = parts, elsewhere
                continue
            if name not in added:
                kept.append(name)
            if here["last"]["all"] != elsewhere["last"]["all"]:
                differing[name] = here["last"]["all"], elsewhere["last"]["all"]
    if added:
        write_bytes(file, _zipped(there | added))
    return Merged(list(added), list(dict.fromkeys(kept)), differing)


def _there(file):
    """The contents of the file that is to be added to."""
    try:
        return _contents(file) if file.exists() else {}
    except RunError as error:
        raise RunError(f"{error}. Move {file} away, then give the same command again") from error


def _contents(file):
    """{name of a run: {part: bytes}} of a file, every byte of which is checked."""
    found = {}
    for run, (_, why) in unpacked(file):
        try:
            if run is None:
                raise why
            found[run.config.name] = _checked(run)
        except RunError as error:
            raise RunError(f"nothing was stored: {error}") from error
    if not found:
        raise RunError(f"nothing was stored: {file} holds no runs; give a file that `--export` wrote")
    return found


def _checked(run):
    """The parts of a packed run as they are, if every one can be read and they agree."""
    for attribute in ("result", "history", "class_counts"):  # each raises what is wrong with it
        getattr(run, attribute)
    if (why := _wrong_with(run)) is not None:
        raise RunError(f"{run.folder}/result.json {why}; export that run again")
    return {name: run.part(name) for name in PARTS}


def _wrong_with(run):
    """What keeps a packed result from standing in a table; None for nothing."""
    for epoch in ("last", "best"):
        found = run.result.get(epoch) if isinstance(run.result, dict) else None
        found = found if isinstance(found, dict) else {}
        if found.get("all") is None or not all(_possible(found.get(name)) for name in REPORTED):
            return f"has no accuracies from 0 to 100 of its {epoch} epoch"
    try:
        datetime.fromisoformat(run.result["finished"])
    except (KeyError, TypeError, ValueError):
        return "does not say when the run was finished"
    if run.confusion is not None:
        told = 100 * np.trace(run.confusion) / run.confusion.sum()
        if not math.isclose(run.result["last"]["all"], told, abs_tol=ROUNDING):
            return f"says {run.result['last']['all']:.2f} % of all test images, but test.npz {told:.2f} %"
    return None


def _possible(value):
    return value is None or (isinstance(value, int | float) and 0 <= value <= 100)  # None: of a group without classes


def _parts(run):
    if isinstance(run, PackedRun):
        return _checked(run)
    history = io.BytesIO()
    columns = [column for column in run.history if column not in MASSES]
    run.history[columns].to_parquet(history, index=False, compression="zstd")
    parts = (_json(run.config.to_dict()), _json(portable(run.result)), history.getvalue(), _test(run))
    return dict(zip(PARTS, parts, strict=True))


def portable(result):
    """A run's result without the folder that its data were found in, which means nothing elsewhere."""
    return result | {"source": result["source"].split(" in ")[0]}


def _json(record):
    return (json.dumps(record, indent=1) + "\n").encode()


def _test(run):
    """What the test logits came to, as test.npz."""
    labels, told, classes = run.labels, run.logits.argmax(1), run.logits.shape[1]
    arrays = {
        "class_counts": run.class_counts,
        "hits": np.bincount(labels[labels == told], minlength=classes).astype(np.int32),
    }
    if classes <= MOST_CLASSES:
        arrays["confusion"] = np.zeros((classes, classes), np.int32)
        np.add.at(arrays["confusion"], (labels, told), 1)
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
