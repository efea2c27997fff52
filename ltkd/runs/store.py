"""All runs of a folder: those that have folders of their own there, and those packed in files."""

import io
import json
import zipfile
import zlib
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from .. import methods
from .._support.fingerprint import of_a_library
from .._support.storage import project_folder
from ..config import RunConfig
from ..errors import DataError, RunError
from .run import Run, runs_folder


class PackedRun(Run):
    """A finished run in a file that `archive.pack` wrote: config, result and history without its masses; neither
    weights nor logits, but how many test images of each class were taken for which (`confusion`)."""

    finished = True

    def __init__(self, file, config):
        super().__init__(Path(file) / config.name, config)
        self.file = Path(file)

    @property
    def finished_at(self):
        return datetime.fromisoformat(self.result["finished"]).timestamp()

    @property
    def class_counts(self):
        return self._test["class_counts"]

    @property
    def confusion(self):
        """Test images of each true class (rows) that went to each class: (C, C); None with very many classes."""
        return self._test.get("confusion")

    @property
    def per_class(self):
        """Test images of each class that were taken for what they are: (C,)."""
        return self._test["hits"]

    def part(self, name):
        """One of its files, as bytes."""
        return self._read(name, bytes)

    @cached_property
    def _test(self):
        return self._read("test.npz", lambda data: dict(np.load(io.BytesIO(data), allow_pickle=False)))

    def _read(self, name, decode):
        member = f"{self.config.name}/{name}"
        try:
            with zipfile.ZipFile(self.file) as packed:
                data = packed.read(member) if member in packed.namelist() else None
            if data is not None:
                return decode(data)
        except Exception as error:  # every format has its own errors for a file that was cut off
            raise RunError(f"{self.folder}/{name} is damaged ({error}); import that file again") from error
        raise RunError(f"{self.folder} is a packed run, which has no {name}; train it here to have it")


def all_runs(folder=None):
    """Every run stored in `folder`, finished or not, by name: its folders, and those packed in files *.zip there (or
    in `folder` itself, where that is such a file). Of several folders in a list the first with a run counts, or the
    first where it is finished. Folders that hold no run are passed over, and those that are damaged, of another
    version, or of a method that is not in METHODS now or has other code now: `strangers` names them."""
    found = {}
    for run, _ in _found(folder):
        if run is not None and (run.config.id not in found or run.finished > found[run.config.id].finished):
            found[run.config.id] = run
    return list(found.values())


def recorded_runs():
    """The folder of the project's own packed runs. Raises DataError without a checkout."""
    folder = project_folder() / "data" / "recorded" / "runs"
    if not folder.is_dir():
        raise DataError("the project's own runs (data/recorded/runs) come with a checkout of it, not with the package")
    return folder


def packed_runs(folder=None):
    """The runs of `folder` that are packed in files."""
    return [run for run in all_runs(folder) if isinstance(run, PackedRun)]


def strangers(folder=None):
    """The folders and files whose runs cannot be read here: {path: why}."""
    return {path: why for run, (path, why) in _found(folder) if run is None}


def _found(folder):
    """(run or None, (its folder, why it cannot be read or None)) for every folder with a config, and of every file."""
    found = []
    for place in map(runs_folder, folder if isinstance(folder, list | tuple) else [folder]):
        for path in sorted(place.glob("*/config.json")):
            found.append(_tried(path.parent, lambda path=path: _current(Run.load(path.parent))))
        for file in [place] if place.is_file() else sorted(place.glob("*.zip")):
            found += unpacked(file)
    return found


def _current(run):
    """The run; RunError if it is the result of other code than its method has now."""
    method = methods.METHODS[run.config.method]
    may_differ = not of_a_library(method) or any(methods.revisions(method))
    if may_differ and run.finished and not run.result.get("name", run.config.id).endswith(run.config.id):
        raise RunError(
            f"{run.folder} is the result of other code than method {run.config.method!r} has now; fit() its config to "
            f"train it with that code, or Run.load() this folder to read it"
        )
    return run


def unpacked(file):
    """The runs in a file of packed runs, as `_found` has them."""
    try:
        with zipfile.ZipFile(file) as packed:
            names = sorted(name for name in packed.namelist() if name.endswith("/config.json"))
            configs = [(name, packed.read(name)) for name in names]
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        return [(None, (Path(file), RunError(f"{file} is not a whole file of packed runs ({error})")))]
    return [_tried(Path(file) / name, partial(_packed_run, file, name, config)) for name, config in configs]


def _packed_run(file, name, config):
    try:
        run = PackedRun(file, RunConfig.from_dict(json.loads(config)))
    except (ValueError, TypeError) as error:
        raise RunError(f"{file}/{name} is not a run of this version ({error})") from error
    if name != f"{run.config.name}/config.json":
        raise RunError(f"{file}/{name} holds another run ({run.config.name})")
    return run


def _tried(path, load):
    try:
        return load(), (path, None)
    except RunError as error:
        return None, (path, error)
