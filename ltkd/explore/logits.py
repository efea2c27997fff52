"""Logits of one or several networks on the same images: what the explorers look at.

  mine = SavedLogits({"teacher": {"train": (logits, labels), "test": (logits, labels)}}, class_counts)
  widgets.teacher_bias(mine)

`SavedLogits.of_runs` makes them of runs, `recorded.recording` reads those that come with the project.
"""

import numpy as np
import torch

from ..errors import ConfigError, DataError, RunError, unknown
from ..groups import ClassGroups

SPLITS = {"train": "long-tailed training images", "test": "balanced test images"}


def check_logits(source):
    """`source` itself. Raises ConfigError unless it is SavedLogits."""
    if isinstance(source, SavedLogits):
        return source
    raise ConfigError(
        f"a {type(source).__name__} is not SavedLogits: give recorded.recording(name), SavedLogits.of_runs(runs, data) "
        f"or SavedLogits({{name: {{'train': (logits, labels), 'test': (logits, labels)}}}}, class_counts)"
    )


class SavedLogits:
    """Logits (N, C) and labels (N,) of networks on long-tailed training and on balanced test images.

    networks: {name: {"train": (logits, labels), "test": (logits, labels)}}, arrays or tensors; one of the two may be
    missing. All networks saw the same images in the same order; one may have seen only the first of them.
    class_counts (C,): training images of each class; class_names: 0, 1, 2, ... unless given. runs: {name: Run} of those
    networks that have one; title: one line on what it is. Raises ConfigError or DataError for what does not fit.
    """

    def __init__(self, networks, class_counts, class_names=None, *, runs=None, title=""):
        self.runs, self.title = dict(runs or {}), title
        self.class_counts = np.asarray(class_counts)
        n_classes = len(self.class_counts)
        self.class_names = tuple(map(str, range(n_classes) if class_names is None else class_names))
        if not networks:
            raise ConfigError("no networks given: give {name: {'train': (logits, labels), 'test': (logits, labels)}}")
        if (self.class_counts < 1).any() or len(self.class_names) != n_classes:
            raise ConfigError(
                f"class_counts must be at least 1 and come with one name a class: {n_classes} counts, the smallest "
                f"{self.class_counts.min()}, and {len(self.class_names)} names"
            )
        self.names = tuple(networks)
        self._kept = {
            (name, split): self._checked(f"{split} of {name!r}", *pair)
            for name, splits in networks.items()
            for split, pair in splits.items()
        }

    @classmethod
    def of_runs(cls, runs, data, *, seed=0):
        """What trained networks say of a data set's images, shuffled as one epoch shows them.

        runs: {name: Run}; data: the LongTailedDataset that they were trained on; seed: of the order.
        """
        order, test_order = (
            torch.randperm(len(half), generator=torch.Generator().manual_seed(seed)) for half in (data.train, data.test)
        )
        train, test = data.train.subset(order), data.test.subset(test_order)
        networks = {
            name: {"train": (run.predict(train.images), train.labels), "test": (run.logits[test_order], test.labels)}
            for name, run in runs.items()
        }
        return cls(networks, data.class_counts, data.class_names, runs=runs)

    @classmethod
    def of_tests(cls, runs, *, seed=0):
        """The test logits that runs stored, shuffled by the seed; of the runs that have some, all that were tested on
        the same images as the first.

        runs: {name: Run}. Raises RunError if none has logits.
        """
        runs = {name: run for name, run in runs.items() if run.has_logits}
        if not runs:
            raise RunError("these runs hold no logits: give a recording, or runs that were trained here")
        first = next(iter(runs.values()))
        same = {n: r for n, r in runs.items() if np.array_equal(r.labels, first.labels)}
        same = {n: r for n, r in same.items() if len(r.class_counts) == len(first.class_counts)}
        order = np.random.default_rng(seed).permutation(len(first.labels))
        networks = {name: {"test": (run.logits[order], run.labels[order])} for name, run in same.items()}
        return cls(networks, first.class_counts, first.result["class_names"], runs=same)

    def splits(self, *names):
        """The halves of the data, of 'train' and 'test', that all these networks have."""
        for name in names:
            self._check_known(name)
        return tuple(split for split in SPLITS if all((name, split) in self._kept for name in names))

    def get(self, split, name):
        """Logits and labels of a network on a half of the data: float32 (N, C), int64 (N,)."""
        self._check_known(name)
        if (name, split) not in self._kept:
            raise unknown(f"half of the data of {name!r}", split, self.splits(name))
        return self._kept[name, split]

    def train(self, name):
        """Logits and labels on long-tailed training images: float32 (N, C), int64 (N,)."""
        return self.get("train", name)

    def test(self, name):
        """Logits and labels on balanced test images: float32 (N, C), int64 (N,)."""
        return self.get("test", name)

    def pair(self, split, teacher, student):
        """Logits of both on the images that both have seen, and their labels: two (N, C), (N,)."""
        (of_teacher, labels), (of_student, same) = self.get(split, teacher), self.get(split, student)
        n = min(len(labels), len(same))
        if not np.array_equal(labels[:n], same[:n]):
            raise DataError(
                f"{teacher!r} and {student!r} have other labels on their first {n} images ({split}): give the logits "
                f"of the same images in the same order"
            )
        return of_teacher[:n], of_student[:n], labels[:n]

    def groups(self, n_groups=3):
        """The classes' groups by rank."""
        return ClassGroups.by_rank(self.class_counts, n_groups)

    def _check_known(self, name):
        if name not in self.names:
            raise unknown("network", name, self.names)

    def _checked(self, what, logits, labels):
        logits, labels = (np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x) for x in (logits, labels))
        n_classes = len(self.class_counts)
        if logits.ndim != 2 or logits.shape[1] != n_classes or labels.shape != logits.shape[:1] or not len(labels):
            raise ConfigError(
                f"{what}: logits must be (images, {n_classes}) for {n_classes} class counts, and labels (images,); "
                f"they are {logits.shape} and {labels.shape}"
            )
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= n_classes:
            raise ConfigError(f"{what}: labels must be whole numbers from 0 to {n_classes - 1}")
        logits = logits.astype(np.float32)
        if not np.isfinite(logits).all():
            raise DataError(f"{what}: some logits are infinite or not a number; look for a network that diverged")
        return logits, labels.astype(np.int64)
