"""Reading all runs of a folder that holds one folder per run."""

import os
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
    """The runs of one or several folders. strangers: the paths that cannot be read, each with its error."""

    runs: list[Run]
    strangers: dict[Path, RunError]


def read_store(folder: Folders = None) -> Store:
    """All runs of one or several folders, finished or not, sorted by name, and the paths that cannot be read.

    A run cannot be read if it is damaged, comes from another version, or its method is not in METHODS or has changed
    its code. Folders without a config.json are ignored. If several folders hold the same run, the first finished one
    counts, else the first.

    folder: one folder or several; None: see `runs_folder`. Raises RunError if a folder is a file.
    """
    found: dict[str, Run] = {}
    strangers: dict[Path, RunError] = {}
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
    """All readable runs of one or several folders, finished or not: see `read_store`."""
    return read_store(folder).runs


def recorded_runs() -> Path:
    """The folder of the project's own runs. Raises DataError if the package is installed without its checkout."""
    folder = project_folder() / "data" / "recorded" / "runs"
    if not folder.is_dir():
        raise DataError(
            "the project's own runs (data/recorded/runs) come with a checkout, not with the installed package"
        )
    return folder


def _candidates(folder: Folders) -> Iterator[Path]:
    """The folders with a config.json, and the zip files. A name with a leading dot marks an unfinished import."""
    for place in map(runs_folder, folder if isinstance(folder, list | tuple) else [folder]):
        if place.is_file():
            raise RunError(f"{place} is a file: {_IMPORT.format(file=place)}")
        if place.is_dir() and not _is_open(place):
            raise RunError(f"{place} cannot be read; make it readable, or choose another folder")
        for path in sorted(place.glob("[!.]*/")):
            # A closed folder may be a run: its error names it.
            if not _is_open(path) or (path / "config.json").exists():
                yield path
        yield from sorted(place.glob("*.zip"))


def _is_open(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def _load(path: Path) -> Run:
    """The run in a folder. Raises RunError for a zip file, and for a run whose method or networks had other
    code."""
    if path.suffix == ".zip" and path.is_file():
        raise RunError(f"{path} is a file of exported runs: {_IMPORT.format(file=path)}")
    run = Run.load(path)
    method = methods.METHODS[run.config.method]
    may_differ = not of_a_library(method) or any(methods.revisions(method)) or run.config.network_revisions
    if may_differ and run.finished and not run.result.get("name", run.config.id).endswith(run.config.id):
        raise RunError(
            f"{run.folder} was trained with other code than method {run.config.method!r} has now, or a network of it; "
            f"train it again with fit(run.config), or read it with Run.load(folder)"
        )
    return run


_IMPORT = "import its runs with: python -m ltkd runs --import {file} --runs FOLDER"
