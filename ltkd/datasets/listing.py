"""Which image files a data set has, and of which class, before any is decoded."""

import os
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from .decoding import IMAGE_SUFFIXES

ANNOTATIONS = "val_annotations.txt"


class Half(NamedTuple):
    """The images to train on, or those to test on."""

    paths: list[str]
    labels: list[int]


class Listing(NamedTuple):
    """All images of a data set. found: in words, where; also: other files that shape the data set."""

    train: Half
    test: Half
    class_names: tuple[str, ...]
    found: str
    also: tuple[Path, ...] = ()

    @property
    def halves(self):
        return self.train, self.test


def class_folders(train, test):
    """The images in `train`/<class>/* and `test`/<class>/*; a class's images may lie in subfolders."""
    by_class = {split: _images_by_class(split) for split in (train, test)}
    names = tuple(sorted(by_class[train]))
    for split, found in by_class.items():
        if not any(found.values()):
            raise DataError(f"{split} has no image in class folders; needed are {split}/<class>/*")
    if strangers := sorted(name for name, files in by_class[test].items() if files and name not in names):
        raise DataError(f"{test / strangers[0]} is a class that {train} has not; remove or rename it")
    also = tuple(split / ANNOTATIONS for split in (train, test) if (split / ANNOTATIONS).is_file())
    halves = (_half(by_class[split], names) for split in (train, test))
    return Listing(*halves, names, f"image folders in {train.parent}", also)


def _half(by_class, names):
    pairs = [(file, label) for label, name in enumerate(names) for file in by_class.get(name, ())]
    return Half([file for file, _ in pairs], [label for _, label in pairs])


def _images_by_class(split):
    if (split / ANNOTATIONS).is_file():
        return _annotated(split)
    with os.scandir(split) as entries:
        folders = [entry for entry in entries if entry.is_dir() and entry.name[0] != "."]  # not .ipynb_checkpoints
    return {folder.name: _images_under(folder.path) for folder in folders}


def _annotated(split):
    """TinyImageNet's own val/, whose classes are in a file."""
    file = split / ANNOTATIONS
    rows = [line.split("\t") for line in file.read_text().splitlines() if line.strip()]
    if bad := next((row for row in rows if len(row) < 2), None):
        raise DataError(f"{file}: the line {bad[0]!r} is not an image, a tab and its class; fetch the file again")
    class_of, by_class = {row[0]: row[1] for row in rows}, {}
    for file in _images_under(split / "images"):
        if name := class_of.get(os.path.basename(file)):
            by_class.setdefault(name, []).append(file)
    return by_class


def _images_under(folder):
    walk = os.walk(folder, followlinks=True)
    found = [os.path.join(parent, name) for parent, _, names in walk for name in names if _is_image(name)]
    return sorted(found, key=lambda file: file.split(os.sep))


def _is_image(name):
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
