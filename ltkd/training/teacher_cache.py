"""The cache of a frozen teacher's logits: each view of an image passes through the teacher once.

A table (image, view) -> logits in float16. At the start of every epoch, the teacher computes the entries that the epoch
needs and the table does not have yet. All students of a teacher on the same images and views share one table.
"""

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._support.fingerprint import network_fingerprint, tensors_fingerprint
from .._support.storage import cache_folder
from ..errors import ConfigError, RunError, unknown
from ..methods import TEACHER
from .deadline import Deadline
from .loaders import DeviceLoader, StreamingLoader
from .logits_check import without_softmax, wrong_logits

CACHES = ("auto", "off", "memory", "disk")
SHARE_OF_MEMORY = 0.25  # of the machine or GPU, for all tables; larger tables are not made
TEACHERS = "LTKD_TEACHERS"  # environment variable: the folder of tables on disk
CHUNK = 256  # images in a forward pass: always the same number, because it changes the last bits of the logits

_tables: "dict[tuple[str, str, str], Table]" = {}  # by content, kind and device; the least recently used first


class Table:
    """Logits of a frozen network on views of images: float16 (N, views, C); `fill` computes missing entries.

    known: bool (N, views), True for entries that are computed.
    """

    def __init__(self, logits: Tensor, known: Tensor) -> None:
        self._logits, self._known = logits, known

    @property
    def nbytes(self) -> int:
        """Bytes of the full table."""
        return self._logits.nbytes + self._known.nbytes

    @torch.no_grad()
    def fill(
        self,
        network: nn.Module,
        make: Callable[[Tensor, Tensor], Tensor],
        indices: Tensor,
        views: Tensor,
        deadline: Deadline | None = None,
        called: str = TEACHER,
    ) -> None:
        """Compute the missing entries of the given views of the given images.

        make: (indices, views) -> normalised images (B, channels, H, W). indices, views: LongTensors (n,). called: the
        network in an error message. A logit too low for float16 becomes -inf, which masks its class as the number did.
        Raises RunError for logits that are NaN, inf or too large for float16, TimeUp at the deadline.
        """
        missing = ~self._known[self._at(indices, views)].to(indices.device)
        indices, views = indices[missing], views[missing]
        deadline = deadline or Deadline()
        for start in range(0, len(indices), CHUNK):
            deadline.check()
            rows, numbers = indices[start : start + CHUNK], views[start : start + CHUNK]
            whole = torch.arange(CHUNK, device=rows.device) % len(rows)
            logits = network(make(rows[whole], numbers[whole]))[: len(rows)]
            if wrong := int(without_softmax(logits).sum()):
                raise wrong_logits(called, wrong, len(rows))
            logits = logits.half()
            if (logits == torch.inf).any():
                raise RunError(f"the logits of the {called} are too large for the cache's float16; use --cache off")
            at = self._at(rows, numbers)
            self._logits[at] = logits.to(self._logits.device)
            self._known[at] = True

    def logits(self, indices: Tensor, views: Tensor) -> Tensor:
        """The stored logits: LongTensors (B,) -> float32 (B, C)."""
        return self._logits[self._at(indices, views)].to(indices.device).float()

    def _at(self, indices: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Indices into the table, on its device (the CPU for a table on disk)."""
        return indices.to(self._logits.device), views.to(self._logits.device)


class TeacherCache(NamedTuple):
    """The tables of a run's teachers, {name: Table}; empty if they compute every batch. note: the kind, and why."""

    tables: dict[str, Table]
    note: str


def cache_teachers(
    teachers: Mapping[str, nn.Module], loader: DeviceLoader | StreamingLoader, cache: str
) -> TeacherCache:
    """The TeacherCache of a run.

    teachers: {name: frozen network}. loader: of the training images. cache: one of CACHES. Raises ConfigError if this
    cache is not possible.
    """
    if cache not in CACHES:
        raise unknown("cache", cache, CACHES)
    if cache == "off" or not teachers:
        return TeacherCache({}, "off")
    if isinstance(loader, StreamingLoader):
        return _without(cache, "images on disk have no numbered views")
    # The bound depends on the machine, not on the free memory: with a cache, the last bits of a run are others.
    size, bound = _size(teachers, loader), SHARE_OF_MEMORY * _memory(loader.device)
    if size > bound:
        return _without(
            cache, f"a table of the teacher's logits would take {_readable(size)}, the bound is {_readable(bound)}"
        )
    kind = _kind(cache, size)
    tables = {name: _table(network, loader, kind) for name, network in teachers.items()}
    freed = _make_room([*tables.values()], loader.device)
    note = f"{kind}: {_readable(sum(table.nbytes for table in tables.values()))} when full"
    return TeacherCache(tables, note + (f"; freed {freed} earlier tables" if freed else ""))


def forget() -> None:
    """Free the memory of all tables of this process."""
    _tables.clear()


def _without(cache: str, problem: str) -> TeacherCache:
    """No cache because of this problem: an error unless `cache` is 'auto'."""
    if cache != "auto":
        raise ConfigError(f"cache = {cache!r}: {problem}; use cache = 'auto' or 'off'")
    return TeacherCache({}, f"off: {problem}")


def _kind(cache: str, size: int) -> str:
    """'memory' or 'disk' for tables of this size in bytes. Both give the same numbers, so that this may depend on the
    free space: 'auto' uses memory if the disk is too full."""
    if cache == "memory" or (cache == "auto" and TEACHERS not in os.environ):
        return "memory"
    if size <= (free := _free_disk()) / 2:
        return "disk"
    if cache == "auto":
        return "memory"
    raise ConfigError(
        f"cache = 'disk': a table of the teacher's logits would take {_readable(size)}, more than half of the free "
        f"{_readable(free)} in {_folder()}; make room there, or use cache = 'auto' or 'off'"
    )


def _size(teachers: Mapping[str, nn.Module], loader: DeviceLoader) -> int:
    """Bytes of the full tables of these teachers."""
    return sum(2 * math.prod(shape) + math.prod(shape[:2]) for shape in (_shape(t, loader) for t in teachers.values()))


def _shape(network: nn.Module, loader: DeviceLoader) -> tuple[int, int, int]:
    """(N, views, C)."""
    return len(loader), loader.views.count, _sample(network, loader).shape[1]


@torch.no_grad()
def _sample(network: nn.Module, loader: DeviceLoader) -> Tensor:
    """The logits of the first images, (16, C)."""
    return network(next(loader.plain(16)))


def _table(network: nn.Module, loader: DeviceLoader, kind: str) -> Table:
    """The table of a teacher: the one of the same network, logits, images and views, else a new one."""
    about = f"{network_fingerprint(network)} {loader.views} {torch.__version__} {loader.device.type}"
    key = tensors_fingerprint([_sample(network, loader), *loader.identity()], about)
    place = (key, kind, str(loader.device))
    if place in _tables:
        _tables[place] = _tables.pop(place)  # the most recently used is last
    else:
        shape = _shape(network, loader)
        _tables[place] = Table(*(_on_disk(key, shape) if kind == "disk" else _in_memory(shape, loader.device)))
    return _tables[place]


def _make_room(needed: Sequence[Table], device: torch.device) -> int:
    """Free the least recently used tables of a device until the others fit the bound; returns how many were freed."""
    held = {place: table for place, table in _tables.items() if place[1:] == ("memory", str(device))}
    excess = sum(table.nbytes for table in held.values()) - SHARE_OF_MEMORY * _memory(device)
    freed = 0
    for place, table in held.items():
        if excess <= 0:
            break
        if not any(table is each for each in needed):
            excess -= _tables.pop(place).nbytes
            freed += 1
    return freed


def _in_memory(shape: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    logits = torch.empty(shape, dtype=torch.float16, device=device)  # takes memory only where it is written
    return logits, torch.zeros(shape[:2], dtype=torch.bool, device=device)


@contextmanager
def shared_folder() -> Iterator[None]:
    """Share tables on disk between this process and those that it starts; remove them at the end."""
    before = os.environ.get(TEACHERS)
    cache_folder().mkdir(parents=True, exist_ok=True)
    for left_over in cache_folder().glob("teachers-*"):  # by processes that were killed
        if time.time() - left_over.stat().st_mtime > 7 * 24 * 3600:
            shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="teachers-") as folder:
        os.environ[TEACHERS] = before or folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[TEACHERS]


def _on_disk(key: str, shape: tuple[int, int, int]) -> list[Tensor]:
    """Files that processes share. `known` is written last, so that a process that dies leaves only whole entries."""
    parts: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "logits": (torch.float16, shape),
        "known": (torch.bool, shape[:2]),
    }
    tensors = []
    for part, (dtype, size) in parts.items():
        path, n = _folder() / f"{key}.{part}", math.prod(size)
        with path.open("ab") as file:
            file.truncate(n * dtype.itemsize)  # adds zeros, which take no space; keeps an existing file
        tensors.append(torch.from_file(str(path), shared=True, size=n, dtype=dtype).view(size))
    return tensors


def _memory(device: torch.device) -> int:
    """Bytes of memory of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on this system
        return 8 * 2**30


def _free_disk() -> int:
    return shutil.disk_usage(_folder()).free


def _folder() -> Path:
    """The folder of tables on disk, which is made if it is missing."""
    folder = Path(os.environ.get(TEACHERS) or cache_folder() / "teachers")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _readable(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
