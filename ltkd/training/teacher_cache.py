"""The cache of a frozen teacher's logits: each view of an image passes through the teacher once.

A table (image, view) -> logits in float16. At the start of every epoch, the teacher computes the entries that the epoch
needs and the table does not have yet. All students of a teacher on the same images and views share one table. Each
entry has a checksum, so that one that was damaged, or never written to the disk, is computed again.
"""

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._support.fingerprint import network_fingerprint, tensors_fingerprint
from .._support.storage import cache_folder, own_folder
from ..errors import ConfigError, RunError, unknown
from ..methods import TEACHER
from .deadline import Deadline
from .loaders import DeviceLoader, StreamingLoader
from .network_check import without_softmax, wrong_logits

CACHES = ("auto", "off", "memory", "disk")
SHARE_OF_MEMORY = 0.25  # of the machine or GPU, for all tables; larger tables are not made
TEACHERS = "LTKD_TEACHERS"  # environment variable: the folder of tables on disk
FACTORS = 2**62  # bound of the random factors of a checksum
ROWS = 4096  # entries whose checksums are computed at once
CHUNK = 256  # images in a forward pass: always the same number, because it changes the last bits of the logits

_tables: "dict[tuple[str, str, str], Table]" = {}  # by content, kind and device; the least recently used first


class Table:
    """Logits of a frozen network on views of images: float16 (N, views, C); `fill` computes missing entries.

    sums: int64 (N, views), the checksum of each entry that is computed. key: identifies the table, hexadecimal.
    """

    def __init__(self, logits: Tensor, sums: Tensor, key: str = "0") -> None:
        self._logits, self._sums, self._key = logits, sums, int(key, 16)
        # The sum of the entry's bits times odd factors, modulo 2**64: one changed bit always changes it.
        generator = torch.Generator().manual_seed(0)
        factors = torch.randint(FACTORS, (logits.shape[2] + 2,), generator=generator) * 2 + 1
        self._factors = factors.to(logits.device)

    @property
    def nbytes(self) -> int:
        """Bytes of the full table."""
        return self._logits.nbytes + self._sums.nbytes

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
        parts = zip(indices.split(ROWS), views.split(ROWS), strict=True)
        missing = torch.cat([self._is_missing(*part) for part in parts]).to(indices.device)
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
            self._sums[at] = self._checksums(*at)

    def logits(self, indices: Tensor, views: Tensor) -> Tensor:
        """The stored logits: LongTensors (B,) -> float32 (B, C)."""
        return self._logits[self._at(indices, views)].to(indices.device).float()

    def _is_missing(self, indices: Tensor, views: Tensor) -> Tensor:
        """Which entries are not there as they were computed: LongTensors (B,) -> bool (B,)."""
        at = self._at(indices, views)
        return self._sums[at] != self._checksums(*at)

    def _checksums(self, indices: Tensor, views: Tensor) -> Tensor:
        """The checksums of entries as they are now, and where: LongTensors (B,) on the table's device -> int64 (B,)."""
        place = torch.stack([self._key + indices * self._sums.shape[1] + views, torch.ones_like(views)], 1)
        bits = self._logits[indices, views].view(torch.int16).long()
        return (torch.cat([place, bits], 1) * self._factors).sum(1)

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
    kind = "disk" if cache == "disk" or (cache == "auto" and TEACHERS in os.environ) else "memory"
    try:
        tables = {name: _table(network, loader, kind) for name, network in teachers.items()}
    except OSError as error:  # both kinds give the same numbers, so that the kind may depend on the free space
        if cache == "disk":
            raise ConfigError(
                f"cache = 'disk': cannot write a table of the teacher's logits to {_folder()} "
                f"({error.strerror or error}); make room there, or use cache = 'auto' or 'off'"
            ) from error
        kind = "memory"
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


def _size(teachers: Mapping[str, nn.Module], loader: DeviceLoader) -> int:
    """Bytes of the full tables of these teachers."""
    shapes = [_shape(teacher, loader) for teacher in teachers.values()]
    return sum(2 * math.prod(shape) + 8 * math.prod(shape[:2]) for shape in shapes)


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
        logits, sums = _on_disk(key, shape) if kind == "disk" else _in_memory(shape, loader.device)
        _tables[place] = Table(logits, sums, key)
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
    return logits, torch.zeros(shape[:2], dtype=torch.int64, device=device)


@contextmanager
def shared_folder() -> Iterator[None]:
    """Share tables on disk between this process and those that it starts; remove them at the end.

    Removes also those of processes that were killed. Raises RunError if the cache cannot be written.
    """
    before = os.environ.get(TEACHERS)
    with ExitStack() as stack:
        if before is None:
            os.environ[TEACHERS] = stack.enter_context(own_folder(cache_folder(), "teachers-"))
            stack.callback(os.environ.pop, TEACHERS)
        yield


def _on_disk(key: str, shape: tuple[int, int, int]) -> list[Tensor]:
    """Files that processes share. Raises OSError if their folder cannot be written or would be too full."""
    parts: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "logits": (torch.float16, shape),
        "sums": (torch.int64, shape[:2]),
    }
    _folder().mkdir(parents=True, exist_ok=True)
    tensors = []
    for part, (dtype, size) in parts.items():
        path, n = _folder() / f"{key}.{part}", math.prod(size)
        with path.open("ab") as file:
            _reserve(file.fileno(), n * dtype.itemsize)
        tensors.append(torch.from_file(str(path), shared=True, size=n, dtype=dtype).view(size))
    return tensors


def _reserve(file: int, size: int) -> None:
    """Make a file so large, and take the space for it now: a disk that is full at a later write would kill the process.

    Keeps the file's content. Raises OSError if there is no space, or if the file would take half of it.
    """
    new, free = size - os.fstat(file).st_size, _free_disk()
    if new > free / 2:
        raise OSError(errno.ENOSPC, f"it needs {_readable(new)}, more than half of the free {_readable(free)}")
    os.truncate(file, size)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file, 0, size)


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
    """The folder of tables on disk."""
    return Path(os.environ.get(TEACHERS) or cache_folder() / "teachers")


def _readable(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
