"""The long-tail builder: the training images of each class for a profile and an imbalance factor."""

import numpy as np
from numpy.typing import ArrayLike

from ...datasets import PROFILES, ImageFiles, LongTailedDataset, class_counts, longtail_indices
from ...groups import ClassGroups
from .. import plots
from .batches import group_control
from .controls import Drawing, Explorer, explore

SHOWN = 12  # images of a class


def longtail_builder(
    data: LongTailedDataset | None = None,
    *,
    available: ArrayLike | None = None,
    profile: str = "exp",
    imbalance_factor: float = 100.0,
    n_groups: int = 3,
    seed: int = 0,
) -> Explorer:
    """An Explorer that builds a long tail from a profile and an imbalance factor.

    data: a data set whose images are shown if they are in memory, best loaded with imbalance_factor=1; available (C,):
    the images of each class if there is no data, by default 500 for each of 100 classes, as in CIFAR-100. profile,
    imbalance_factor, n_groups: first values of the controls; seed: chooses the images that a class keeps. Raises
    ConfigError for an unknown profile.
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
    """Draws the figure of the long-tail builder. available (C,): images of each class; data: their images, or None."""

    def __init__(self, available: np.ndarray, data: LongTailedDataset | None = None, seed: int = 0):
        self.available, self.data, self.seed = available, data, seed

    def draw(self, profile: str, imbalance_factor: float, n_groups: int, log: bool) -> Drawing:
        """The figure and the note above it; the arguments are the values of the controls."""
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
        return figure, _summary(counts, by_shots)

    def _samples(self, counts: np.ndarray) -> dict[str, np.ndarray] | None:
        """Kept images of the largest and of the smallest class: {heading: uint8 (N, channels, side, side)}."""
        if self.data is None or isinstance(self.data.train, ImageFiles):
            return None
        labels = self.data.train.labels
        kept = longtail_indices(labels, counts, self.seed)
        samples = {}
        for c in (int(np.argmax(counts)), len(counts) - 1 - int(np.argmin(counts[::-1]))):
            shown = kept[labels[kept].numpy() == c][:SHOWN]
            heading = f"class {c}, '{self.data.class_names[c]}': {len(shown)} of {counts[c]} images"
            samples[heading] = self.data.train.images[shown].numpy()
        return samples


def _summary(counts: np.ndarray, by_shots: ClassGroups) -> str:
    shots = ", ".join(f"{size} {name}" for name, size in zip(by_shots.names, by_shots.sizes, strict=True))
    return (
        f"{counts.sum():,} images of {len(counts)} classes; the largest class has {counts.max():,}, the middle one "
        f"{int(np.median(counts)):,}, the smallest {counts.min():,}. Classes by shots: {shots} (many: above 100 "
        f"images, few: below 20)."
    )
