"""A partition of the classes into groups, such as head, medium and tail."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .errors import ConfigError, shown

RANK_NAMES = {1: ("all",), 2: ("head", "tail"), 3: ("head", "medium", "tail")}
SHOT_NAMES = ("many", "medium", "few")


@dataclass(frozen=True, eq=False)
class ClassGroups:
    """Disjoint, non-empty groups that cover all classes.

    names: one name per group, from most to fewest training images. index: LongTensor (C,), the group of each class.
    Raises: ConfigError if index is not (C,) integers, or does not use each of the numbers 0 to len(names) - 1.
    """

    names: tuple[str, ...]
    index: Tensor

    def __post_init__(self) -> None:
        index = torch.as_tensor(self.index)
        if index.ndim != 1 or index.is_floating_point():
            raise ConfigError(f"index must be a (C,) tensor of integers, got {index.dtype} {tuple(index.shape)}")
        if sorted(set(index.tolist())) != list(range(len(self.names))):
            raise ConfigError(
                f"{len(self.names)} group names need the group numbers 0 to {len(self.names) - 1}, each used by at "
                f"least one class; index holds {sorted(set(index.tolist()))}"
            )
        names = tuple(self.names)
        if len(set(names)) < len(names) or ("all" in names and len(names) > 1):
            raise ConfigError(f"group names {names}: must all differ, and 'all' may only name one group of all classes")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "index", index.long())

    @classmethod
    def by_rank(cls, class_counts: ArrayLike | Tensor, n_groups: int | None = None) -> Self:
        """Sort the classes by training images (descending, ties by class index) and cut them into `n_groups` runs.

        class_counts: (C,). n_groups: by default three, or one per class if there are fewer than three classes.
        Three groups hold 33 %, 34 % and 33 % of the classes (LTKD, section 4.1). For any other number the sizes
        differ by at most one, the larger groups first.
        Raises: ConfigError if n_groups is not between 1 and C.

        >>> groups = ClassGroups.by_rank([5, 100, 50, 20, 10])
        >>> groups.names, groups.sizes
        (('head', 'medium', 'tail'), (2, 1, 2))
        >>> groups.index.tolist()
        [2, 0, 0, 1, 2]
        """
        counts = counts_per_class(class_counts)
        n_classes = len(counts)
        n_groups = min(3, n_classes) if n_groups is None else n_groups
        if not 1 <= n_groups <= n_classes:
            raise ConfigError(f"n_groups = {n_groups}: must lie between 1 and the number of classes, {n_classes}")
        return cls._of_sorted(counts, _sizes(n_classes, n_groups))

    @classmethod
    def by_gaps(cls, class_counts: ArrayLike | Tensor, n_groups: int) -> Self:
        """Sort the classes by training images and cut where the counts fall most on a log scale, ties at the first.

        class_counts: (C,), each at least 1.
        Raises: ConfigError if a count is below 1, or if n_groups is not between 1 and the number of distinct counts.
        """
        counts = counts_per_class(class_counts)
        if not (counts >= 1).all():
            raise ConfigError("class_counts holds a count below 1: drop the classes that have no images")
        drops = -counts.sort(descending=True).values.double().log().diff()
        distinct = 1 + int((drops > 0).sum())
        if not 1 <= n_groups <= distinct:
            raise ConfigError(
                f"n_groups = {n_groups}: must lie between 1 and the number of distinct counts, {distinct}"
            )
        cuts = 1 + drops.argsort(descending=True, stable=True)[: n_groups - 1].sort().values
        return cls._of_sorted(counts, torch.diff(torch.tensor([0, *cuts.tolist(), len(counts)])).tolist())

    @classmethod
    def by_shots(cls, class_counts: ArrayLike | Tensor, many: int = 100, few: int = 20) -> Self:
        """Many-shot (more than `many` training images), medium-shot and few-shot (fewer than `few`) classes.

        class_counts: (C,). The definition of OLTR and BKD (section 5.1). A group without classes is left out.
        """
        counts = counts_per_class(class_counts)
        shots = torch.ones(len(counts), dtype=torch.long)
        shots[counts > many] = 0
        shots[counts < few] = 2
        present, index = torch.unique(shots, return_inverse=True)
        return cls(tuple(SHOT_NAMES[g] for g in present.tolist()), index)

    @classmethod
    def _of_sorted(cls, counts: Tensor, sizes: Sequence[int]) -> Self:
        """Groups of these sizes, filled with the classes from most to fewest images."""
        index = torch.empty(len(counts), dtype=torch.long)
        order = torch.argsort(counts, descending=True, stable=True)
        index[order] = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        return cls(RANK_NAMES.get(len(sizes)) or tuple(f"group {g + 1}" for g in range(len(sizes))), index)

    @property
    def n_groups(self) -> int:
        return len(self.names)

    @property
    def n_classes(self) -> int:
        return len(self.index)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Classes in each group: `n_groups` integers."""
        return tuple(torch.bincount(self.index, minlength=self.n_groups).tolist())

    def to(self, device: torch.device | str) -> Self:
        """The same groups with their index on `device`."""
        return type(self)(self.names, self.index.to(device))


def counts_per_class(class_counts: ArrayLike | Tensor) -> Tensor:
    """Training images of each class as a tensor (C,). Raises: ConfigError unless they are C numbers of at least 0."""
    try:
        counts = torch.as_tensor(class_counts)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"class_counts = {shown(class_counts)}: must be one number per class") from error
    if counts.ndim != 1 or not len(counts) or counts.is_complex() or not ((counts >= 0) & (counts < torch.inf)).all():
        raise ConfigError(f"class_counts = {shown(counts.tolist())}: must be (C,) numbers of at least 0, one per class")
    return counts


def _sizes(n_classes: int, n_groups: int) -> list[int]:
    if n_groups == 3:
        outer = int(n_classes * 0.33 + 0.5)
        return [outer, n_classes - 2 * outer, outer]
    size, larger = divmod(n_classes, n_groups)
    return [size + 1] * larger + [size] * (n_groups - larger)
