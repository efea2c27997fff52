"""Folders of this project, atomic writes of files, their digests, and locks between processes."""

import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from ..errors import ConfigError, RunError, shown
from .terminal import say

TURN = 5.0  # seconds between two calls of `meanwhile`
OWNER = ".owner"  # the file in a process's own folder that it locks
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
    return expanded(os.environ.get("LTKD_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ltkd")


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with the user's home folder in place of `~`. Raises RunError if there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise RunError(f"{path} lies in a home folder, which this system does not know; name another folder") from error


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The content of a file. Raises RunError if the system does not give it: such a file need not be damaged."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror or error}); nothing was changed: make it readable, then give the "
            f"same command again"
        ) from error


def sha256(*parts: bytes) -> str:
    """The SHA-256 hash of some bytes, one part after the other: 64 hexadecimal digits."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def seal(data: bytes, owner: str) -> bytes:
    """`data` behind a line with a hash of it and of its owner's name, which `unseal` checks."""
    return sha256(owner.encode(), data).encode() + b"\n" + data


def unseal(sealed: bytes, owner: str) -> bytes:
    """The data that `seal` was given. Raises ValueError if they were changed, cut off or sealed for another owner."""
    found, _, data = sealed.partition(b"\n")
    if found.decode(errors="replace") != sha256(owner.encode(), data):
        raise ValueError("its content is not what was stored")
    return data


def chosen_folder(name: str, given: str | os.PathLike[str] | None, variable: str, default: Path) -> Path:
    """The folder that the caller gave as the argument `name`, else that of the environment variable, else the default.

    Raises ConfigError if the caller gave an empty text, or no path at all: it might have been meant for another folder;
    RunError for an unknown home folder.
    """
    if given is not None and not (isinstance(given, str | os.PathLike) and os.fspath(given)):
        raise ConfigError(
            f"{name} = {shown(given)}: must be the path of a folder; leave it out for {variable} or {default}"
        )
    return expanded(given or os.environ.get(variable) or default)


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
def own_folder(parent: Path, prefix: str) -> Iterator[str]:
    """A new folder in `parent`, which is removed at the end, with those that killed processes left there.

    A lock on a file in it says that its process lives; on a file system without locks, nothing is removed. Raises
    RunError if `parent` cannot be written.
    """
    with ExitStack() as stack:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            # One process at a time, so that none sees a folder before its lock is taken.
            with alone(parent / f".{prefix}lock", f"waiting for another process that cleans {parent}"):
                for left_over in parent.glob(f"{prefix}*"):
                    with _lock(left_over / OWNER) as free:
                        if free:
                            shutil.rmtree(left_over, ignore_errors=True)
                folder = stack.enter_context(TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True))
                stack.enter_context(_lock(Path(folder, OWNER)))
        except OSError as error:
            why = error.strerror or error
            raise RunError(f"cannot write {parent}: {why}; set LTKD_CACHE to another folder") from error
        yield folder


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold a lock file if no other process does, and say so. The system frees the lock of a process that dies."""
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock stays after its process was killed
    with suppress(Timeout, OSError):
        lock.acquire(timeout=0)
    try:
        yield lock.is_locked
    finally:
        lock.release()


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
