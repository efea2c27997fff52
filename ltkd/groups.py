"""A partition of the classes into groups, such as head, medium and tail."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .errors import ConfigError

RANK_NAMES = {1: ("all",), 2: ("head", "tail"), 3: ("head", "medium", "tail")}
SHOT_NAMES = ("many", "medium", "few")


@dataclass(frozen=True, eq=False)
class ClassGroups:
    """Disjoint, non-empty groups that cover all classes.

    names: one name a group, from most to fewest training images.
    index: LongTensor (C,), the group of each class.
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

    @classmethod
    def by_rank(cls, class_counts, n_groups=3):
        """Cut the classes, sorted by training images (descending, ties by class index), into `n_groups` runs.

        Three groups hold 33 %, 34 % and 33 % of the classes (LTKD, section 4.1); any other number gives groups
        whose sizes differ by one at most, the larger ones first.
        """
        counts = torch.as_tensor(class_counts)
        n_classes = len(counts)
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
