"""Recordings: the logits of trained networks that come with the project, so that notebooks need no training.

A recording is a folder data/recorded/<name>: `index.json` (title, class names, and the run of each network),
`images.npz` (labels and indices of the images) and one folder per run, without weights. It holds no images.
data/recorded/make_recording.py writes it.
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
    """The recording called `name`. Raises ConfigError for an unknown name, DataError if there are no recordings."""
    if not (_folder() / name / INDEX).is_file():
        if not recordings():
            raise DataError(
                f"there is no recording in {_folder()}: recordings come with a checkout of the project, not with the "
                f"installed package; work in a checkout, or copy its data/recorded there"
            )
        raise unknown("recording", name, recordings())
    return read_recording(_folder() / name)


def read_recording(folder: str | Path) -> SavedLogits:
    """The recording in a folder: logits of a teacher and its students on the same images, and their runs.

    The training images are in random order; some networks have only the first of them. The test images are a balanced
    part of the test set. Raises OSError if a file is missing.
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


def _folder() -> Path:
    return project_folder() / "data" / "recorded"
