"""The cache of a frozen teacher's logits: each view of an image passes through the teacher once.

A table (image, view) -> logits in float16. At the start of every epoch it is filled with the entries that the epoch
needs and the table lacks. All students of that teacher on those images and views share it.
"""

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from .._support.fingerprint import network_fingerprint, tensors_fingerprint
from .._support.storage import cache_folder
from ..errors import ConfigError, RunError, unknown
from .deadline import Deadline

CACHES = ("auto", "off", "memory", "disk")
SHARE_OF_MEMORY = 0.25  # of the machine or GPU, for all tables; a teacher with a larger one computes every batch
TEACHERS = "LTKD_TEACHERS"  # the environment variable that names the folder of tables on disk
CHUNK = 256  # images a pass: always as many, so that the logits of an image do not depend on the others' number

_tables = {}  # {key: Table}, kept for the process


class Table:
    """Logits of a frozen network on views of images: float16 (N, views, C). `fill` computes what is needed."""

    def __init__(self, logits, known):
        self._logits, self._known = logits, known

    @property
    def nbytes(self):
        """Bytes of the full table."""
        return self._logits.nbytes + self._known.nbytes

    @torch.no_grad()
    def fill(
        self,
        network: nn.Module,
        make: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        indices: torch.Tensor,
        views: torch.Tensor,
        deadline: Deadline | None = None,
    ) -> None:
        """Compute the entries of the given views of the given images that the table lacks.

        make(indices, views): normalised images (B, channels, H, W); indices, views: LongTensors (n,). Raises RunError
        for logits that are too large for float16.
        """
        missing = ~self._known[self._at(indices, views)].to(indices.device)
        indices, views = indices[missing], views[missing]
        deadline = deadline or Deadline()
        for start in range(0, len(indices), CHUNK):
            deadline.check()
            rows, numbers = indices[start : start + CHUNK], views[start : start + CHUNK]
            whole = torch.arange(CHUNK, device=rows.device) % len(rows)
            answers = network(make(rows[whole], numbers[whole]))[: len(rows)].half()
            if not answers.isfinite().all():
                raise RunError("the teacher's logits are too large for the float16 of the cache; use --cache off")
            at = self._at(rows, numbers)
            self._logits[at] = answers.to(self._logits.device)
            self._known[at] = True

    def logits(self, indices: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        """The stored logits: LongTensors (B,) -> float32 (B, C)."""
        return self._logits[self._at(indices, views)].to(indices.device).float()

    def _at(self, indices, views):
        """Indices into the table, on its device: the CPU for a table on disk."""
        return indices.to(self._logits.device), views.to(self._logits.device)


class TeacherCache(NamedTuple):
    """The tables of a run's teachers, {name: Table}, empty where they compute every batch; note: which, and why."""

    tables: dict[str, Table]
    note: str


def cache_teachers(teachers: dict[str, nn.Module], loader, cache: str) -> TeacherCache:
    """The TeacherCache of a run. teachers: {name: frozen network}; loader: of the training images; cache: one of
    CACHES. Raises ConfigError where that cache is not possible."""
    if cache not in CACHES:
        raise unknown("cache", cache, CACHES)
    if cache == "off" or not teachers:
        return TeacherCache({}, "off")
    problem = _problem(teachers, loader)
    if problem and cache != "auto":
        raise ConfigError(f"cache = {cache!r}: {problem}; use cache = 'auto' or 'off'")
    if problem:
        return TeacherCache({}, f"off: {problem}")
    kind = _kind(cache, _size(teachers, loader))
    tables = {name: _table(network, loader, kind) for name, network in teachers.items()}
    forgotten = _make_room([*tables.values()], loader.device)
    note = f"{kind}: {_readable(sum(table.nbytes for table in tables.values()))} when full"
    return TeacherCache(tables, note + (f"; freed {forgotten} earlier tables" if forgotten else ""))


def forget() -> None:
    """Free the memory of all tables of this process."""
    _tables.clear()


def _problem(teachers, loader):
    """Why the logits of these teachers cannot be cached; None where they can. It depends on the machine alone, not on
    the memory that is free at the moment, since it decides about rounding, and so about a run's last bits."""
    if loader.views is None:
        return "images on disk have no numbered views"
    size, bound = _size(teachers, loader), SHARE_OF_MEMORY * _memory(loader.device)
    if size > bound:
        return f"a table of the teacher's logits would take {_readable(size)}, the bound is {_readable(bound)}"
    return None


def _kind(cache, size):
    """Whether tables of that size go to memory or to disk. Both give the same numbers, so this may depend on the space
    that is free at the moment: 'auto' takes memory where the disk has no room."""
    if cache == "memory" or (cache == "auto" and TEACHERS not in os.environ):
        return "memory"
    if size <= (free := _free_disk()) / 2:
        return "disk"
    if cache == "auto":
        return "memory"
    raise ConfigError(
        f"cache = 'disk': a table of the teacher's logits would take {_readable(size)}, more than half of the "
        f"{_readable(free)} that are free in {_folder()}; make room there, or use cache = 'auto' or 'off'"
    )


def _size(teachers, loader):
    """Bytes of the tables of these teachers when they are full."""
    return sum(2 * math.prod(shape) + math.prod(shape[:2]) for shape in (_shape(t, loader) for t in teachers.values()))


def _shape(network, loader):
    return len(loader), loader.views.count, _sample(network, loader).shape[1]


@torch.no_grad()
def _sample(network, loader):
    return network(next(loader.plain(16)))


def _table(network, loader, kind):
    """The table of a teacher: new, or the one of the same network, logits, images and views."""
    about = f"{network_fingerprint(network)} {loader.views} {torch.__version__} {loader.device.type}"
    key = tensors_fingerprint([_sample(network, loader), *loader.identity()], about)
    place = (key, kind, str(loader.device))
    if place in _tables:
        _tables[place] = _tables.pop(place)  # the last used stands last
    else:
        shape = _shape(network, loader)
        _tables[place] = Table(*(_on_disk(key, shape) if kind == "disk" else _in_memory(shape, loader.device)))
    return _tables[place]


def _make_room(needed, device):
    """Free the least recently used tables of a device until all of them fit the bound; returns how many were freed."""
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
    """Files that several processes share. `known` is written last, so a process that dies leaves only whole entries."""
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
    """Bytes of memory of the device."""
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
