"""The long-tail builder: a profile, an imbalance factor, and what becomes of the classes."""

import numpy as np

from ...datasets import PROFILES, class_counts, longtail_indices
from ...groups import ClassGroups
from .. import plots
from .batches import group_control
from .controls import explore

SHOWN = 12  # images of a class


def longtail_builder(data=None, *, available=None, profile="exp", imbalance_factor=100.0, n_groups=3, seed=0):
    """Build a long tail by hand: an Explorer.

    data: a LongTailedDataset whose images are shown, best loaded whole (imbalance_factor=1); else available (C,): the
    images that each class has, by default CIFAR-100's 500 of 100 classes. profile, imbalance_factor, n_groups: where
    the controls start; seed: which images of a class are kept.
    """
    if data is not None:
        available = data.class_counts.numpy()
    builder = LongTailBuilder(np.full(100, 500) if available is None else np.asarray(available), data, seed)
    largest = float(builder.available.max())
    return explore(
        builder.draw,
        profile={"options": list(PROFILES), "value": profile, "help": "how counts fall from class to class"},
        imbalance_factor={
            "range": (1.0, largest, 1.0),
            "value": imbalance_factor,
            "help": "images of the first class over images of the last",
        },
        n_groups=group_control(n_groups, len(builder.available), label="groups by rank"),
        log={"value": False, "label": "logarithmic axis"},
    )


class LongTailBuilder:
    """What the long-tail builder draws. available (C,): images that each class has; data: a data set, or None."""

    def __init__(self, available, data=None, seed=0):
        self.available, self.data, self.seed = available, data, seed

    def draw(self, profile, imbalance_factor, n_groups, log):
        """The figure, and a sentence on it."""
        counts = class_counts(profile, imbalance_factor, self.available, capped=True)
        by_rank, by_shots = ClassGroups.by_rank(counts, n_groups), ClassGroups.by_shots(counts)
        figure = plots.longtail(
            counts,
            by_rank,
            by_shots,
            class_names=None if self.data is None else self.data.class_names,
            log=log,
            samples=self._samples(counts),
            title=f"{profile}, γ = {imbalance_factor:g}: {counts.sum():,} training images",
        )
        return figure, _sentence(counts, by_shots)

    def _samples(self, counts):
        """Images of the largest and of the smallest class that are kept, under a heading each."""
        if self.data is None or self.data.streamed:
            return None
        labels = self.data.train.labels
        kept = longtail_indices(labels, counts, self.seed)
        samples = {}
        for c in (int(np.argmax(counts)), len(counts) - 1 - int(np.argmin(counts[::-1]))):
            shown = kept[labels[kept].numpy() == c][:SHOWN]
            heading = f"class {c}, '{self.data.class_names[c]}': {len(shown)} of {counts[c]} images"
            samples[heading] = self.data.train.images[shown].numpy()
        return samples


def _sentence(counts, by_shots):
    """What the counts amount to."""
    shots = ", ".join(f"{size} {name}" for name, size in zip(by_shots.names, by_shots.sizes, strict=True))
    return (
        f"{counts.sum():,} images of {len(counts)} classes; the largest class has {counts.max():,}, the middle one "
        f"{int(np.median(counts)):,}, the smallest {counts.min():,}. Classes by shots: {shots} (many: above 100 "
        f"images, few: below 20)."
    )
