"""What the explorers of batches share: the controls for the split of the data, the batch and the groups."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigError
from ..logits import SPLITS, SavedLogits

BATCH_SIZES = (8, 16, 32, 64, 128, 256, 512)
MOST_GROUPS = 8  # the number of group colours


def group_control(n_groups: int, n_classes: int, *, fewest: int = 1, label: str = "groups") -> dict[str, Any]:
    """The slider of the number of groups, for `explore`."""
    most = min(MOST_GROUPS, n_classes)
    return {"range": (fewest, most), "value": min(n_groups, most), "label": label}


def batch_controls(logits: SavedLogits, networks: Sequence[str], batch_size: int) -> dict[str, Any]:
    """The controls that choose a batch of images with logits of all `networks`, for `explore`.

    `batch_changes` sets their limits. Raises ConfigError if the networks share no split.
    """
    return {
        "data": {"options": _split_options(logits, networks)},
        "batch_size": {"options": list(BATCH_SIZES), "value": batch_size, "kind": "steps"},
        "batch": {"range": (1, 2), "value": 1},
    }


def batch_changes(logits: SavedLogits, networks: Sequence[str], values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The splits, batch sizes and batches that `networks` have: changes for an explorer's `adapt` to return.

    values: of the explorer's controls. Raises ConfigError if the networks share no split.
    """
    options = _split_options(logits, networks)
    splits = [split for _, split in options]
    split = values["data"] if values["data"] in splits else splits[0]
    n_images = min(len(logits.get(split, name)[1]) for name in networks)
    sizes = [size for size in BATCH_SIZES if size <= n_images] or [n_images]
    batch_size = values["batch_size"] if values["batch_size"] in sizes else sizes[-1]
    return {
        "data": {"options": options},
        "batch_size": {"options": sizes},
        "batch": {"max": n_images // batch_size},
    }


def batch_rows(batch_size: int, batch: int) -> slice:
    """The rows of a batch; batches count from 1."""
    return slice((batch - 1) * batch_size, batch * batch_size)


def _split_options(logits: SavedLogits, networks: Sequence[str]) -> list[tuple[str, str]]:
    """The splits that all networks have: [(text, split)]."""
    splits = logits.splits(*networks)
    if not splits:
        raise ConfigError(
            f"{' and '.join(map(repr, networks))} have logits on different images: choose networks that share training "
            f"or test images"
        )
    return [(SPLITS[split], split) for split in splits]
