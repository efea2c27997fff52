"""Networks of ours that were trained once and recorded, so that a notebook shows the real thing at once.

A recording is a folder data/recorded/<name>: `index.json` (what it is, and the run of each network), `images.npz` (the
labels of the recorded images, and which they are) and one folder a run, without weights. No image is in it. It is made
by data/recorded/make_recording.py.
"""

import io
import json
from functools import cached_property
from pathlib import Path

import numpy as np

from .._support.storage import project_folder
from ..errors import DataError, unknown
from ..groups import ClassGroups
from ..runs import Run

INDEX, IMAGES = "index.json", "images.npz"


def recordings():
    """The names of all recordings."""
    return sorted(path.parent.name for path in _folder().glob(f"*/{INDEX}"))


def recording(name):
    """The Recording called `name`."""
    if not (_folder() / name / INDEX).is_file():
        if not recordings():
            raise DataError(
                f"there is no recording in {_folder()}: recordings come with a checkout of the project, not with an "
                f"installed package; work in a checkout, or copy its data/recorded there"
            )
        raise unknown("recording", name, recordings())
    return Recording(_folder() / name)


class Recording:
    """Logits and histories of a teacher and of its students on the same images, in the same order.

    title: one line on what it is. names: of the networks. Training images are in a random order, as one epoch shows
    them; of some networks only the first of them are recorded. The test images are balanced, some of each class.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.index = json.loads((self.folder / INDEX).read_text())
        self.title = self.index["title"]
        self.names = tuple(self.index["networks"])

    def __repr__(self):
        return f"Recording({self.folder.name}: {', '.join(self.names)})"

    @cached_property
    def runs(self):
        """The run of each network, with its config, history and result: {name: Run}."""
        return {name: Run.load(self.folder / run) for name, run in self.index["networks"].items()}

    @property
    def class_names(self):
        return tuple(self.index["class_names"])

    @property
    def class_counts(self):
        """Training images of each class: (C,)."""
        return self._images["class_counts"]

    def groups(self, n_groups=3):
        """The classes' groups by rank."""
        return ClassGroups.by_rank(self.class_counts, n_groups)

    def train(self, network):
        """Logits and labels on long-tailed training images: float32 (N, C) and (N,)."""
        logits = self._logits(network)["train_logits"].astype(np.float32)
        return logits, self._images["train_labels"][: len(logits)]

    def test(self, network):
        """Logits and labels on balanced test images: float32 (N, C) and (N,)."""
        return self._logits(network)["logits"].astype(np.float32), self._images["test_labels"]

    @cached_property
    def _images(self):
        return dict(np.load(self.folder / IMAGES))

    def _logits(self, network):
        if network not in self.index["networks"]:
            raise unknown("network of the recording", network, self.names)
        return np.load(io.BytesIO((self.folder / self.index["networks"][network] / "logits.npz").read_bytes()))


def _folder():
    return project_folder() / "data" / "recorded"
