"""What the explorers of batches share: the choice of a half of the data, of a batch in it and of the groups."""

from ...errors import ConfigError
from ..logits import SPLITS

BATCH_SIZES = (8, 16, 32, 64, 128, 256, 512)
MOST_GROUPS = 8  # as many as there are colours


def group_control(n_groups, n_classes, *, fewest=1, label="groups"):
    """The slider of the number of groups, for `explore`."""
    most = min(MOST_GROUPS, n_classes)
    return {"range": (fewest, most), "value": min(n_groups, most), "label": label}


def batch_controls(logits, networks, batch_size):
    """The controls of a batch of what all `networks` of the SavedLogits answered, for `explore`; as they move,
    `follow` says what else does."""
    return {
        "data": {"options": _halves(logits, networks)},
        "batch_size": {"options": list(BATCH_SIZES), "value": batch_size, "kind": "steps"},
        "batch": {"range": (1, 2), "value": 1},
    }


def follow(logits, networks, values):
    """Which halves, batch sizes and batches there are for `networks`: changes for an explorer's `adapt` to return."""
    halves = _halves(logits, networks)
    splits = [split for _, split in halves]
    split = values["data"] if values["data"] in splits else splits[0]
    n_images = min(len(logits.get(split, name)[1]) for name in networks)
    sizes = [size for size in BATCH_SIZES if size <= n_images] or [n_images]
    batch_size = values["batch_size"] if values["batch_size"] in sizes else sizes[-1]
    return {
        "data": {"options": halves},
        "batch_size": {"options": sizes},
        "batch": {"max": n_images // batch_size},
    }


def rows(batch_size, batch):
    """The rows of a batch, counted from 1."""
    return slice((batch - 1) * batch_size, batch * batch_size)


def _halves(logits, networks):
    """The halves of the data that all networks have: [(in words, name)]."""
    splits = logits.splits(*networks)
    if not splits:
        raise ConfigError(f"{' and '.join(map(repr, networks))} have no half of the data in common")
    return [(SPLITS[split], split) for split in splits]
