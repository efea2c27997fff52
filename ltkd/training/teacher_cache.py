"""The remembered teacher: a frozen network says the same of the same picture, so it is asked once.

A table (image, view) -> logits in float16, filled at the start of every epoch with what that epoch needs and the table
lacks, kept for the process and shared by all students of that teacher on those images and views.
"""

import math
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from .._support.fingerprint import network_fingerprint, tensors_fingerprint
from .._support.storage import cache_folder
from ..errors import ConfigError, RunError, unknown

CACHES = ("auto", "off", "memory", "disk")
SHARE_OF_MEMORY = 0.25  # of all that a machine or GPU has, for all tables; a teacher whose own takes more computes
TEACHERS = "LTKD_TEACHERS"  # the environment variable that names the folder of tables on disk
CHUNK = 256  # images a pass: always as many, so that an answer does not depend on which others are asked with it

_tables = {}  # {key: Table}, kept for the process


class Table:
    """Logits of a frozen network on views of images: float16 (N, views, C), filled as `fill` is asked."""

    def __init__(self, logits, known):
        self._logits, self._known = logits, known

    @property
    def nbytes(self):
        """What the table takes when it is full."""
        return self._logits.nbytes + self._known.nbytes

    @torch.no_grad()
    def fill(self, network, make, indices, views):
        """Make sure that the table knows the given views of the given images.

        make(indices, views): normalised images (B, channels, H, W); indices, views: LongTensors (n,).
        """
        missing = ~self._known[self._at(indices, views)].to(indices.device)
        indices, views = indices[missing], views[missing]
        for start in range(0, len(indices), CHUNK):
            rows, numbers = indices[start : start + CHUNK], views[start : start + CHUNK]
            whole = torch.arange(CHUNK, device=rows.device) % len(rows)
            answers = network(make(rows[whole], numbers[whole]))[: len(rows)].half()
            if not answers.isfinite().all():
                raise RunError("the teacher's logits are beyond float16, in which they are remembered: use --cache off")
            at = self._at(rows, numbers)
            self._logits[at] = answers.to(self._logits.device)
            self._known[at] = True

    def logits(self, indices, views):
        """What `fill` has put there: float32 (B, C)."""
        return self._logits[self._at(indices, views)].to(indices.device).float()

    def _at(self, indices, views):
        """The place of answers: on a disk a table is read by the CPU, whatever the images' device."""
        return indices.to(self._logits.device), views.to(self._logits.device)


class Memory(NamedTuple):
    """How a run remembers its teachers. tables: {name: Table}, without those that compute; note: what, and why."""

    tables: dict
    note: str


def remember(teachers, feed, cache):
    """The Memory of a run. teachers: {name: network}, frozen; feed: of the training images; cache: one of CACHES."""
    if cache not in CACHES:
        raise unknown("cache", cache, CACHES)
    if cache == "off" or not teachers:
        return Memory({}, "off")
    problem = _problem(teachers, feed)
    if problem and cache != "auto":
        raise ConfigError(f"cache = {cache!r}: {problem}; use cache = 'auto' or 'off'")
    if problem:
        return Memory({}, f"off: {problem}")
    kind = _kind(cache, _size(teachers, feed))
    tables = {name: _table(network, feed, kind) for name, network in teachers.items()}
    forgotten = _make_room([*tables.values()], feed.device)
    note = f"{kind}: {_readable(sum(table.nbytes for table in tables.values()))} when full"
    return Memory(tables, note + (f"; made room by forgetting {forgotten} earlier" if forgotten else ""))


def forget():
    """Free the memory of all tables of this process."""
    _tables.clear()


def _problem(teachers, feed):
    """Why these teachers cannot be remembered; None where they can. The answer depends on the machine, and neither on
    what is free at the moment nor on where the tables go, since it decides about rounding, and so about a run's last
    bits."""
    if feed.views is None:
        return "images on disk have no numbered views"
    size, bound = _size(teachers, feed), SHARE_OF_MEMORY * _memory(feed.device)
    if size > bound:
        return f"a table of the teacher's answers would take {_readable(size)}, the bound is {_readable(bound)}"
    return None


def _kind(cache, size):
    """Whether tables of that size go to memory or to disk. Both give the same answers, so this may depend on what is
    free at the moment: 'auto' takes memory where the disk has no room."""
    if cache == "memory" or (cache == "auto" and TEACHERS not in os.environ):
        return "memory"
    if size <= (free := _free_disk()) / 2:
        return "disk"
    if cache == "auto":
        return "memory"
    raise ConfigError(
        f"cache = 'disk': a table of the teacher's answers would take {_readable(size)}, more than half of the "
        f"{_readable(free)} that are free in {_folder()}; make room there, or use cache = 'auto' or 'off'"
    )


def _size(teachers, feed):
    """Bytes of the tables of these teachers when they are full."""
    return sum(2 * math.prod(shape) + math.prod(shape[:2]) for shape in (_shape(t, feed) for t in teachers.values()))


def _shape(network, feed):
    return len(feed), feed.views.count, _said(network, feed).shape[1]


@torch.no_grad()
def _said(network, feed):
    return network(next(feed.plain(16)))


def _table(network, feed, kind):
    """The table of a teacher, made anew or found again by the network, by what it says, and by the images and views."""
    about = f"{network_fingerprint(network)} {feed.views} {torch.__version__} {feed.device.type}"
    key = tensors_fingerprint([_said(network, feed), *feed.identity()], about)
    place = (key, kind, str(feed.device))
    if place in _tables:
        _tables[place] = _tables.pop(place)  # the last used stands last
    else:
        shape = _shape(network, feed)
        _tables[place] = Table(*(_on_disk(key, shape) if kind == "disk" else _in_memory(shape, feed.device)))
    return _tables[place]


def _make_room(needed, device):
    """Forget tables of a device that were used longest ago while all of its own together take more than the bound;
    returns how many."""
    held = {place: table for place, table in _tables.items() if place[1:] == ("memory", str(device))}
    excess = sum(table.nbytes for table in held.values()) - SHARE_OF_MEMORY * _memory(device)
    forgotten = 0
    for place, table in held.items():
        if excess <= 0:
            break
        if not any(table is each for each in needed):
            excess -= _tables.pop(place).nbytes
            forgotten += 1
    return forgotten


def _in_memory(shape, device):
    logits = torch.empty(shape, dtype=torch.float16, device=device)  # the system gives pages only as they are written
    return logits, torch.zeros(shape[:2], dtype=torch.bool, device=device)


@contextmanager
def shared_folder():
    """Within it, tables on disk are shared by this process and those it starts, and removed at the end."""
    before = os.environ.get(TEACHERS)
    cache_folder().mkdir(parents=True, exist_ok=True)
    for left_over in cache_folder().glob("teachers-*"):  # of processes that were killed
        if time.time() - left_over.stat().st_mtime > 7 * 24 * 3600:
            shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="teachers-") as folder:
        os.environ[TEACHERS] = before or folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[TEACHERS]


def _on_disk(key, shape):
    """Files that several processes share; one that dies leaves only whole answers, as `known` is written after them."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"logits": (torch.float16, shape), "known": (torch.bool, shape[:2])}
    tensors = []
    for part, (dtype, size) in parts.items():
        path, n = folder / f"{key}.{part}", math.prod(size)
        with path.open("ab") as file:
            file.truncate(n * dtype.itemsize)  # grows by zeros, which take no room; an existing file is left as it is
        tensors.append(torch.from_file(str(path), shared=True, size=n, dtype=dtype).view(size))
    return tensors


def _memory(device):
    """Bytes that the device has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on this system
        return 8 * 2**30


def _free_disk():
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free


def _folder():
    return Path(os.environ.get(TEACHERS) or cache_folder() / "teachers")


def _readable(size):
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
