"""Finished runs in one small file, to be carried from machine to machine: what came out of them, not what they are.

The file is a zip with a folder a run: config.json, result.json, history.parquet without the teacher's mass in every
batch (nine tenths of its size), and test.npz: the training images of each class, the test images that were told right,
and, up to so many classes, the whole confusion. `runs.table` and all that reads its rows take such files as they take
folders; see `runs.PackedRun`.
"""

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from .errors import RunError
from .files import write_bytes
from .runs import PackedRun, unpacked

PARTS = ("config.json", "result.json", "history.parquet", "test.npz")
MASSES = ("teacher_mass", "rebalanced_mass")
MOST_CLASSES = 200  # with a confusion matrix: 40,000 small numbers
STAMP = (1980, 1, 1, 0, 0, 0)  # zip's first date, so that the same runs make the same file


def pack(finished, file):
    """Add finished runs to a file, which is made if it is not there. A run that is in it already stays as it is.

    Returns the names of the runs that were added, and of those that were in the file before.
    """
    file = Path(file)
    there = _contents(file) if file.exists() else {}
    added, kept = [], []
    for run in finished:
        name = run.config.name
        (kept if name in there else added).append(name)
        if name not in there:
            there[name] = _parts(run)
    if added:
        write_bytes(file, _zipped(there))
    return added, kept


def merge(sources, file, known=()):
    """Add the runs of other files to `file`, made if it is not there. known: names of runs that are not to be added,
    because the store has them.

    Returns the names of the runs that were added, and of those that were there. Raises RunError for a file that is
    damaged, or is none of packed runs; nothing is added then.
    """
    runs = {}
    for source in sources:
        if not Path(source).is_file():
            raise RunError(f"{source} is not there; give a file that `--export` wrote")
        for name, parts in _contents(source).items():
            runs.setdefault(name, parts)
    there = _contents(file) if Path(file).exists() else {}
    added = {name: parts for name, parts in runs.items() if name not in there and name not in known}
    if added:
        write_bytes(file, _zipped(there | added))
    return list(added), [name for name in runs if name not in added]


def _contents(file):
    """{name of a run: {part: bytes}} of a file, every byte of which is checked."""
    found = {}
    for run, (_, why) in unpacked(file):
        if run is None:
            raise RunError(f"nothing was stored: {why}")
        found[run.config.name] = _checked(run)
    if not found:
        raise RunError(f"nothing was stored: {file} holds no runs; give a file that `--export` wrote")
    return found


def _checked(run):
    """The parts of a packed run as they are, if every one can be read."""
    for attribute in ("result", "history", "class_counts"):  # each raises what is wrong with it
        getattr(run, attribute)
    return {name: run.part(name) for name in PARTS}


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
