"""All runs of a folder, which holds one folder a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .. import methods
from .._support.fingerprint import of_a_library
from .._support.storage import project_folder
from ..errors import DataError, RunError
from .run import Run, runs_folder

Folders = str | Path | list | tuple | None


class Store(NamedTuple):
    """The runs of one or several folders, and what cannot be read there: {path: why}."""

    runs: list[Run]
    strangers: dict[Path, RunError]


def read_store(folder: Folders = None) -> Store:
    """Every run stored in `folder`, finished or not, by name, and the folders whose runs cannot be read.

    Those are damaged, of another version, or of a method that is not in METHODS now or has other code now. Other
    folders are passed over.

    folder: one folder or several; None as for `runs_folder`. A run that several folders hold is taken from the first
    where it is finished, else from the first. Raises RunError for a file in place of a folder.
    """
    found, strangers = {}, {}
    for path in _candidates(folder):
        try:
            run = _load(path)
        except RunError as error:
            strangers[path] = error
            continue
        if (before := found.get(run.config.id)) is None or run.finished > before.finished:
            found[run.config.id] = run
    return Store(list(found.values()), strangers)


def all_runs(folder: Folders = None) -> list[Run]:
    """Every run stored in `folder` that can be read, finished or not: see `read_store`."""
    return read_store(folder).runs


def recorded_runs() -> Path:
    """The folder of the project's own runs. Raises DataError without a checkout."""
    folder = project_folder() / "data" / "recorded" / "runs"
    if not folder.is_dir():
        raise DataError("the project's own runs (data/recorded/runs) come with a checkout of it, not with the package")
    return folder


def _candidates(folder) -> Iterator[Path]:
    """The folders that hold a config.json, and the files of exported runs beside them. A folder whose name begins with
    a dot is one that an import has not finished."""
    for place in map(runs_folder, folder if isinstance(folder, list | tuple) else [folder]):
        if place.is_file():
            raise RunError(f"{place} is a file: {_IMPORT.format(file=place)}")
        yield from (path.parent for path in sorted(place.glob("[!.]*/config.json")))
        yield from sorted(place.glob("*.zip"))


def _load(path):
    if path.suffix == ".zip" and path.is_file():
        raise RunError(f"{path} holds runs that are not unpacked: {_IMPORT.format(file=path)}")
    return _current(Run.load(path))


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


_IMPORT = "add its runs to a folder with: python -m ltkd runs --import {file} --runs FOLDER"
