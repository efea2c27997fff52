"""A partition of the classes into groups, such as head, medium and tail."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import ConfigError

RANK_NAMES = {1: ("all",), 2: ("head", "tail"), 3: ("head", "medium", "tail")}
SHOT_NAMES = ("many", "medium", "few")

PAD = -1e30  # next to any logit nothing, and far enough from the end of float32 to be added to one
MOST_CELLS = 1.5  # cells of the rows for one class; an uneven partition is cut into more rows before it needs more
SHORT = 32  # cells; shorter rows than that lie side by side in memory, so that inner loops are long


class Rows(NamedTuple):
    """The classes of a partition as R rows of W cells, so that sums over a group are sums over rows, none of them long.

    Cells that hold no class of their row are padded; at most half as many as there are classes.
    """

    pads: Tensor  # (R, W): what to add to a cell's value: 0 for a class, PAD else; cells in memory are in its order
    place: Tensor | None  # (C,): the cell of each class, counted in memory; None where they are the classes in order
    step: int | None  # rows are windows on the classes, each so many further than the last; None where `take` says
    take: Tensor | None  # (R W,): the class in each cell, in memory; None where the rows are windows
    owner: Tensor | None  # (R,): the group of each row; None where each group has one row
    n_groups: int

    def to(self, device):
        """The same rows on `device`."""
        if self.pads.device == device:
            return self
        return Rows(*(part.to(device) if isinstance(part, Tensor) else part for part in self))

    def of(self, values):
        """One value a class, in rows: (B, C) -> (B, R, W); the value of a padded cell is that of any class."""
        if self.take is None:
            return values.unfold(1, self.pads.shape[1], self.step)
        # as_strided instead of view, here and below: torch.compile then gathers once, not for each use of the rows.
        cells = values.index_select(1, self.take)
        return cells.as_strided((len(cells), *self.pads.shape), (cells.shape[1], *self.pads.stride()))

    def to_classes(self, rows):
        """Back from rows: (B, R, W) -> (B, C)."""
        in_memory = (rows if self.pads.is_contiguous() else rows.mT).contiguous()
        cells = in_memory.as_strided((len(rows), self.pads.numel()), (self.pads.numel(), 1))
        return cells if self.place is None else cells.index_select(1, self.place)

    def sum(self, values):
        """Sums over the rows of each group: (B, R) -> (B, G)."""
        if self.owner is None:
            return values
        zeros = values.new_zeros(len(values), self.n_groups)
        return zeros.scatter_add(1, self.owner.expand_as(values), values)

    def max(self, values):
        """The largest value among the rows of each group: (B, R) -> (B, G)."""
        if self.owner is None:
            return values
        lowest = values.new_full((len(values), self.n_groups), -torch.inf)
        return lowest.scatter_reduce(1, self.owner.expand_as(values), values, "amax")

    def spread(self, values):
        """The value of its group for each cell of a row: (B, G) -> (B, R, 1)."""
        return (values if self.owner is None else values.index_select(1, self.owner)).unsqueeze(2)


@dataclass(frozen=True, eq=False)
class ClassGroups:
    """Disjoint, non-empty groups that cover all classes.

    names: one name a group, from most to fewest training images.
    index: LongTensor (C,), the group of each class.
    rows: the same partition as `Rows`, for sums over the groups.
    """

    names: tuple[str, ...]
    index: Tensor

    def __post_init__(self):
        index = torch.as_tensor(self.index)
        if index.ndim != 1 or index.is_floating_point():
            raise ConfigError(f"index must be a (C,) tensor of integers, got {index.dtype} {tuple(index.shape)}")
        if sorted(set(index.tolist())) != list(range(len(self.names))):
            raise ConfigError(
                f"{len(self.names)} group names need the group numbers 0 to {len(self.names) - 1}, each used by at "
                f"least one class; index holds {sorted(set(index.tolist()))}"
            )
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "index", index.long())
        # Not when first asked for: that may be inside torch.compile, which cannot follow it.
        object.__setattr__(self, "rows", _rows(self.index.cpu(), torch.tensor(self.sizes)).to(index.device))

    @classmethod
    def by_rank(cls, class_counts, n_groups=None):
        """Cut the classes, sorted by training images (descending, ties by class index), into `n_groups` runs; by
        default three, or fewer where there are fewer classes.

        Three groups hold 33 %, 34 % and 33 % of the classes (LTKD, section 4.1); any other number gives groups
        whose sizes differ by one at most, the larger ones first.
        """
        counts = torch.as_tensor(class_counts)
        n_classes = len(counts)
        n_groups = min(3, n_classes) if n_groups is None else n_groups
        if not 1 <= n_groups <= n_classes:
            raise ConfigError(f"n_groups = {n_groups}: must lie between 1 and the number of classes, {n_classes}")
        order = torch.argsort(counts, descending=True, stable=True)
        index = torch.empty(n_classes, dtype=torch.long)
        index[order] = torch.repeat_interleave(torch.arange(n_groups), torch.tensor(_sizes(n_classes, n_groups)))
        return cls(RANK_NAMES.get(n_groups) or tuple(f"group {g + 1}" for g in range(n_groups)), index)

    @classmethod
    def by_shots(cls, class_counts, many=100, few=20):
        """Many-shot (more than `many` training images), medium-shot, few-shot (fewer than `few`) classes.

        The definition of OLTR and BKD (section 5.1). Groups without a class are dropped together with their names.
        """
        counts = torch.as_tensor(class_counts)
        shots = torch.ones(len(counts), dtype=torch.long)
        shots[counts > many] = 0
        shots[counts < few] = 2
        present, index = torch.unique(shots, return_inverse=True)
        return cls(tuple(SHOT_NAMES[g] for g in present.tolist()), index)

    @property
    def n_groups(self):
        return len(self.names)

    @property
    def n_classes(self):
        return len(self.index)

    @cached_property
    def sizes(self):
        """Classes in each group: tuple of `n_groups` integers."""
        return tuple(torch.bincount(self.index, minlength=self.n_groups).tolist())

    def to(self, device):
        """The same groups with their index on `device`."""
        return ClassGroups(self.names, self.index.to(device))


def _sizes(n_classes, n_groups):
    if n_groups == 3:
        outer = int(n_classes * 0.33 + 0.5)
        return [outer, n_classes - 2 * outer, outer]
    size, larger = divmod(n_classes, n_groups)
    return [size + 1] * larger + [size] * (n_groups - larger)


def _rows(index, sizes):
    """The rows of a partition: index (C,), sizes (G,)."""
    order = torch.argsort(index, stable=True)
    cut = _cut(sizes.cumsum(0) - sizes, sizes.cumsum(0), in_order=bool((order.diff() == 1).all()))
    n_rows, width = len(cut.first), cut.width
    cell = torch.arange(n_rows * width)
    cell = cell.view(width, n_rows).mT if width < min(n_rows, SHORT) else cell.view(n_rows, width)
    position = cut.first[:, None] + torch.arange(width)
    held = (position >= cut.begin[:, None]) & (position < cut.end[:, None])
    place = torch.empty_like(index)
    place[order[position[held]]] = cell[held]
    take = torch.empty(n_rows * width, dtype=torch.long)
    take[cell] = order[position.clamp(max=len(index) - 1)]
    return Rows(
        pads=torch.zeros_like(cell, dtype=torch.float32).masked_fill_(~held, PAD),
        place=None if torch.equal(place, torch.arange(n_rows * width)) else place,
        step=cut.step,
        take=take if cut.step is None else None,
        owner=cut.owner,
        n_groups=len(sizes),
    )


class _Cut(NamedTuple):
    """Rows of classes that are sorted by group: where each one starts, and from where to where it holds its classes."""

    width: int
    first: Tensor
    begin: Tensor
    end: Tensor
    step: int | None = None
    owner: Tensor | None = None


def _cut(starts, ends, in_order):
    """The first way to cut the classes that keeps the cells few; windows need no gathering, so they come first."""
    ways = [_windows, _whole] if in_order else [_whole]
    for way in ways:
        cut = way(starts, ends)
        if len(starts) * cut.width <= MOST_CELLS * int(ends[-1]):
            return cut
    return _pieces(starts, ends)


def _windows(starts, ends):
    """One window a group, equally far from each other, none before the first class or beyond the last."""
    rank = torch.arange(len(starts))
    room_before, room_after = starts[1:] // rank[1:], (ends[-1] - ends[:-1]).flip(0) // rank[1:]
    step = min(torch.cat([room_before, room_after]).tolist(), default=1)
    first = rank * step
    return _Cut(int((ends - first).max()), first, starts, ends, step=step)


def _whole(starts, ends):
    """One row a group, as wide as the largest."""
    return _Cut(int((ends - starts).max()), starts, starts, ends)


def _pieces(starts, ends):
    """Rows half as wide as the mean group: at most half a row is padded for each group, and three rows a group."""
    width = -(-int(ends[-1]) // (2 * len(starts)))
    n_rows = (ends - starts + width - 1) // width
    owner = torch.repeat_interleave(n_rows)
    begin = starts[owner] + width * (torch.arange(len(owner)) - (n_rows.cumsum(0) - n_rows)[owner])
    return _Cut(width, begin, begin, torch.minimum(begin + width, ends[owner]), owner=owner)
