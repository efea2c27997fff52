"""The remembered teacher: a frozen network says the same of the same picture, so it is asked once.

A table (image, view) -> logits in float16, filled at the start of every epoch with what that epoch needs and the table
lacks, kept for the process and shared by all students of that teacher on those images and views.
"""

import math
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from .errors import ConfigError, RunError, unknown
from .files import cache_folder
from .randomness import fingerprint

CACHES = ("auto", "off", "memory", "disk")
SHARE_OF_MEMORY = 0.25  # of what is free when a table is made; beyond it the teacher computes
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
        missing = ~self._known[indices, views]
        indices, views = indices[missing], views[missing]
        for start in range(0, len(indices), CHUNK):
            rows, numbers = indices[start : start + CHUNK], views[start : start + CHUNK]
            whole = torch.arange(CHUNK, device=rows.device) % len(rows)
            answers = network(make(rows[whole], numbers[whole]))[: len(rows)].half()
            if not answers.isfinite().all():
                raise RunError("the teacher's logits are beyond float16, in which they are remembered: use --cache off")
            self._logits[rows, numbers] = answers
            self._known[rows, numbers] = True

    def logits(self, indices, views):
        """What `fill` has put there: float32 (B, C)."""
        return self._logits[indices, views].float()


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
    if feed.views is None:
        if cache != "auto":
            raise ConfigError(f"cache = {cache!r}: images on disk have no numbered views; leave it at auto, or off")
        return Memory({}, "off: images on disk have no numbered views")
    tables = {}
    for name, network in teachers.items():
        table, problem = _table(network, feed, cache)
        if problem and cache != "auto":
            raise ConfigError(f"cache = {cache!r}: {problem}; use cache = 'auto' or 'off'")
        if problem:
            return Memory({}, f"off: {problem}")
        tables[name] = table
    kind = "disk" if cache == "disk" else "memory"
    return Memory(tables, f"{kind}: {_readable(sum(table.nbytes for table in tables.values()))} when full")


def forget():
    """Free the memory of all tables of this process."""
    _tables.clear()


def _table(network, feed, cache):
    """The table of a teacher: (Table, None), or (None, why there is none)."""
    key = fingerprint([*network.state_dict().values(), *feed.identity()]) + f"-{feed.views.count}"
    device = str(feed.device)
    if (key, cache == "disk", device) in _tables:
        return _tables[key, cache == "disk", device], None
    shape = (len(feed), feed.views.count, network(next(feed.plain(2))).shape[1])
    size = 2 * math.prod(shape) + math.prod(shape[:2])
    bound = SHARE_OF_MEMORY * (_free_disk() if cache == "disk" else _free_memory(feed.device))
    if size > bound:
        return None, f"the teacher's table would take {_readable(size)}, the bound is {_readable(bound)}"
    table = Table(*(_on_disk(key, shape) if cache == "disk" else _in_memory(shape, feed.device)))
    _tables[key, cache == "disk", device] = table
    return table, None


def _in_memory(shape, device):
    logits = torch.empty(shape, dtype=torch.float16, device=device)  # the system gives pages only as they are written
    return logits, torch.zeros(shape[:2], dtype=torch.bool, device=device)


@contextmanager
def shared_folder():
    """Within it, tables on disk are shared by this process and those it starts, and removed at the end."""
    before = os.environ.get(TEACHERS)
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="teachers-") as folder:
        os.environ[TEACHERS] = before or folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[TEACHERS]


def _on_disk(key, shape):
    """Files that several processes share; one that dies leaves only whole answers, as `known` is written after them."""
    folder = Path(os.environ.get(TEACHERS) or cache_folder() / "teachers")
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"logits": (torch.float16, shape), "known": (torch.bool, shape[:2])}
    tensors = []
    for part, (dtype, size) in parts.items():
        path, n = folder / f"{key}.{part}", math.prod(size)
        with path.open("ab") as file:
            file.truncate(n * dtype.itemsize)  # grows by zeros, which take no room; an existing file is left as it is
        tensors.append(torch.from_file(str(path), shared=True, size=n, dtype=dtype).view(size))
    return tensors


def _free_memory(device):
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on this system
        return 2**32


def _free_disk():
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free


def _readable(size):
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
