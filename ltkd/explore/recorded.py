"""Networks of ours that were trained once and recorded, so that a notebook shows the real thing at once.

A recording is a folder data/recorded/<name>: `index.json` (what it is, and the run of each network), `images.npz` (the
labels of the recorded images, and which they are) and one folder a run, without weights. No image is in it. It is made
by data/recorded/make_recording.py.
"""

import json
from pathlib import Path

import numpy as np

from .._support.storage import project_folder
from ..errors import DataError, unknown
from ..runs import Run
from .logits import SavedLogits

INDEX, IMAGES = "index.json", "images.npz"


def recordings() -> list[str]:
    """The names of all recordings."""
    return sorted(path.parent.name for path in _folder().glob(f"*/{INDEX}"))


def recording(name: str) -> SavedLogits:
    """The recording called `name`. Raises DataError without a checkout, ConfigError for an unknown name."""
    if not (_folder() / name / INDEX).is_file():
        if not recordings():
            raise DataError(
                f"there is no recording in {_folder()}: recordings come with a checkout of the project, not with an "
                f"installed package; work in a checkout, or copy its data/recorded there"
            )
        raise unknown("recording", name, recordings())
    return read_recording(_folder() / name)


def read_recording(folder: str | Path) -> SavedLogits:
    """The recording in a folder: a teacher and its students on the same images, in the same order, and their runs.

    The training images are in a random order, as one epoch shows them; of some networks only the first of them are
    recorded. The test images are balanced, some of each class. Raises OSError if a file is missing.
    """
    folder = Path(folder)
    index, images = json.loads((folder / INDEX).read_text()), np.load(folder / IMAGES)
    networks, labels = {}, images["train_labels"]
    for name, run in index["networks"].items():
        with np.load(folder / run / "logits.npz") as arrays:
            train, test = arrays["train_logits"], arrays["logits"]
        networks[name] = {"train": (train, labels[: len(train)]), "test": (test, images["test_labels"])}
    runs = {name: Run.load(folder / run) for name, run in index["networks"].items()}
    return SavedLogits(networks, images["class_counts"], index["class_names"], runs=runs, title=index["title"])


def _folder():
    return project_folder() / "data" / "recorded"
