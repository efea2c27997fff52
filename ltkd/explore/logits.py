"""SavedLogits: the logits of one or several networks on the same images, the input of the explorers.

  mine = SavedLogits({"teacher": {"train": (logits, labels), "test": (logits, labels)}}, class_counts)
  widgets.teacher_bias(mine)

`SavedLogits.of_runs` computes them from runs; `recorded.recording` reads those that come with the project.
"""

from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np
import torch

from ..datasets import LongTailedDataset
from ..datasets.image_files import ImageFiles
from ..errors import ConfigError, DataError, RunError, unknown
from ..groups import ClassGroups
from ..runs import Run

Values = np.ndarray | torch.Tensor

SPLITS = {"train": "long-tailed training images", "test": "balanced test images"}


def check_logits(source: object) -> "SavedLogits":
    """Return `source`. Raises ConfigError if it is not SavedLogits."""
    if isinstance(source, SavedLogits):
        return source
    raise ConfigError(
        f"a {type(source).__name__} is not SavedLogits: give recorded.recording(name), SavedLogits.of_runs(runs, data) "
        f"or SavedLogits({{name: {{'train': (logits, labels), 'test': (logits, labels)}}}}, class_counts)"
    )


class SavedLogits:
    """Logits (N, C) and labels (N,) of networks on long-tailed training and on balanced test images.

    networks: {name: {"train": (logits, labels), "test": (logits, labels)}}, arrays or tensors; one of the two may be
    missing. The images and their order are the same for all networks; a network may have only the first images.
    class_counts: number of training images per class, (C,); class_names: default 0, 1, 2, ...; runs: {name: Run} of the
    networks that come from runs; title: one line. Raises ConfigError for wrong shapes or labels, DataError for logits
    that are not finite.
    """

    def __init__(
        self,
        networks: Mapping[str, Mapping[str, tuple[Values, Values]]],
        class_counts: Values,
        class_names: Iterable[object] | None = None,
        *,
        runs: Mapping[str, Run] | None = None,
        title: str = "",
    ) -> None:
        self.runs, self.title = dict(runs or {}), title
        self.class_counts = np.asarray(class_counts)
        n_classes = len(self.class_counts)
        self.class_names = tuple(map(str, range(n_classes) if class_names is None else class_names))
        if not networks:
            raise ConfigError("no networks given: give {name: {'train': (logits, labels), 'test': (logits, labels)}}")
        if (self.class_counts < 1).any() or len(self.class_names) != n_classes:
            raise ConfigError(
                f"class_counts must be at least 1, with one name per class: there are {n_classes} counts, the smallest "
                f"{self.class_counts.min()}, and {len(self.class_names)} names"
            )
        self.names = tuple(networks)
        self._kept = {
            (name, split): self._checked(f"{split} of {name!r}", *pair)
            for name, splits in networks.items()
            for split, pair in splits.items()
        }

    @classmethod
    def of_runs(cls, runs: Mapping[str, Run], data: LongTailedDataset, *, seed: int = 0) -> Self:
        """The logits of trained networks on the images of a data set, in random order.

        runs: {name: Run}, with weights and logits; data: the data set of the runs; seed: of the order. Raises RunError
        if a run has no weights or no logits, DataError if the images are files on disk.
        """
        if isinstance(data.train, ImageFiles):
            raise DataError(
                "of_runs needs images in memory, not files on disk; use of_tests(runs) for test logits alone"
            )
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
    def of_tests(cls, runs: Mapping[str, Run], *, seed: int = 0) -> Self:
        """The stored test logits of runs, in random order.

        Leaves out runs without logits, and runs with other test images than the first one left.

        runs: {name: Run}; seed: of the order. Raises RunError if no run has logits.
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

    def splits(self, *names: str) -> tuple[str, ...]:
        """The splits, 'train' and 'test', that all these networks have. Raises ConfigError for an unknown network."""
        for name in names:
            self._check_known(name)
        return tuple(split for split in SPLITS if all((name, split) in self._kept for name in names))

    def get(self, split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Logits and labels of a network on one split: float32 (N, C), int64 (N,).

        Raises ConfigError for an unknown network, or if the network does not have this split.
        """
        self._check_known(name)
        if (name, split) not in self._kept:
            raise unknown(f"split of {name!r}", split, self.splits(name))
        return self._kept[name, split]

    def train(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Logits and labels on long-tailed training images: float32 (N, C), int64 (N,)."""
        return self.get("train", name)

    def test(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Logits and labels on balanced test images: float32 (N, C), int64 (N,)."""
        return self.get("test", name)

    def pair(self, split: str, teacher: str, student: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logits of two networks on the images that both have, and the labels: (N, C), (N, C), (N,).

        Raises ConfigError as `get` does, DataError if the labels differ.
        """
        (of_teacher, labels), (of_student, same) = self.get(split, teacher), self.get(split, student)
        n = min(len(labels), len(same))
        if not np.array_equal(labels[:n], same[:n]):
            raise DataError(
                f"{teacher!r} and {student!r} have different labels on their first {n} images ({split}): give the "
                f"logits of the same images in the same order"
            )
        return of_teacher[:n], of_student[:n], labels[:n]

    def groups(self, n_groups: int = 3) -> ClassGroups:
        """Groups of the classes by rank."""
        return ClassGroups.by_rank(self.class_counts, n_groups)

    def _check_known(self, name: str) -> None:
        if name not in self.names:
            raise unknown("network", name, self.names)

    def _checked(self, what: str, logits: Values, labels: Values) -> tuple[np.ndarray, np.ndarray]:
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
            raise DataError(f"{what}: some logits are infinite or not a number; check whether this network diverged")
        return logits, labels.astype(np.int64)
