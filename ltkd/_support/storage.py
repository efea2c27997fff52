"""Where this project keeps its files, and how it writes them: whole or not at all, one process at a time."""

import os
import secrets
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import RunError

TURN = 5.0  # seconds
TEMPORARY = ".writing-"  # begins the name of a file that is not whole yet


def checkout():
    """The checkout this package is installed from; None for an ordinary installation."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() else None


def project_folder():
    """The checkout this package is installed from, else the current folder."""
    return checkout() or Path.cwd()


def cache_folder():
    """Where decoded images are kept: LTKD_CACHE, else the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ltkd"
    return Path(os.environ.get("LTKD_CACHE") or default)


def write_bytes(path, data):
    """Write `data` under a temporary name, then rename: a reader sees the old file or the new one, never a part."""
    path = Path(path)
    temporary = path.parent / f"{TEMPORARY}{path.name}-{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:  # and not tempfile's, which others could not read
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise RunError(
            f"cannot write {path}: {error.strerror or error}. What was stored before is intact; make room or choose "
            f"another folder, then give the same command again to go on"
        ) from error


@contextmanager
def alone(path, waiting, meanwhile=lambda: None):
    """Within it, no other process is within `alone` of the same lock file: this one waits for it, and says so once on
    stderr, in the words of `waiting`, and calls `meanwhile` every few seconds. The system frees the lock of a process
    that dies."""
    lock = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a process that is killed
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        print(waiting, file=sys.stderr, flush=True)
        while not lock.is_locked:
            meanwhile()
            with suppress(Timeout):
                lock.acquire(timeout=TURN, poll_interval=0.5)
    except OSError:
        pass  # a file system without locks, or one to read only: working unguarded is better than not at all
    try:
        yield
    finally:
        lock.release()
