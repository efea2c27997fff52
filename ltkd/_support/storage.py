"""Folders of this project, atomic writes of files, and locks between processes."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import RunError
from .terminal import say

TURN = 5.0  # seconds between two calls of `meanwhile`
TEMPORARY = ".writing-"  # prefix of a file that is still being written


def checkout() -> Path | None:
    """The checkout that holds this package; None for an ordinary installation."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() else None


def project_folder() -> Path:
    """The checkout that holds this package, else the current folder."""
    return checkout() or Path.cwd()


def cache_folder() -> Path:
    """The folder of all caches: LTKD_CACHE, else `ltkd` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltkd"
    return Path(os.environ.get("LTKD_CACHE") or default)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` under a temporary name, then rename: a reader sees the old file or the new one, never a part.

    Raises RunError if the file cannot be written; the old file is then unchanged.
    """
    with staged({Path(path): data}):
        pass


@contextmanager
def staged(files: Mapping[Path, bytes]) -> Iterator[None]:
    """Write all files under temporary names, run the body, then rename them in their order.

    So the body runs only if there is space for all of them. Raises RunError if a file cannot be written.
    """
    temporary = {path: path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}" for path in files}
    path = next(iter(files))
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary[path], "xb") as file:  # not tempfile: only its owner can read such a file
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        yield
        for path in files:
            os.replace(temporary[path], path)
    except BaseException as error:
        for name in temporary.values():
            with suppress(OSError):
                name.unlink()
        if not isinstance(error, OSError):
            raise
        raise RunError(
            f"cannot write {path}: {error.strerror or error}. The files stored before are unchanged; free space or "
            f"choose another folder, then give the same command again to go on"
        ) from error


@contextmanager
def alone(path: str | os.PathLike[str], waiting: str, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock file `path`, so that one process at a time runs the body.

    A process that has to wait prints `waiting` once to stderr and calls `meanwhile` every few seconds. The system frees
    the lock of a process that dies. A file system without locks is used without one.
    """
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock stays after its process was killed
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        say(waiting, file=sys.stderr)
        while not lock.is_locked:
            meanwhile()
            with suppress(Timeout):
                lock.acquire(timeout=TURN, poll_interval=0.5)
    except OSError:
        pass  # no locks, or a read-only file system: to work without a lock is better than to fail
    try:
        yield
    finally:
        lock.release()
