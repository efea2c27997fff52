"""Data sets whose images are named in two lists, one to train on and one to test on."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from .listing import Half, Listing


class _List(NamedTuple):
    """paths: as written; classes: of each image, as written; names: {class: its name}, where the list has them."""

    file: Path
    paths: list[str]
    classes: list[str]
    names: dict


def listed(train_file, test_file, folders, hint=""):
    """The images that two lists name, line by line: `path class`, the class a whole number from 0 on or its name.

    A list may also be a JSON file of annotations as iNaturalist's. folders: where the paths may begin; hint: ends the
    error for images that are not there.
    """
    train, test = (_read_json(file) if file.suffix == ".json" else _read_text(file) for file in (train_file, test_file))
    for each in (train, test):
        if not each.paths:
            raise DataError(f"{each.file} names not a single image; write one a line: `path class`")
    label_of, names = _classes(train)
    if strangers := set(test.classes) - set(label_of):
        path, stranger = next((p, c) for p, c in zip(test.paths, test.classes, strict=True) if c in strangers)
        raise DataError(f"{test_file}: {path} is of class {stranger!r}, of which {train_file} has no image")
    halves = [Half(_located(x, folders, hint), [label_of[c] for c in x.classes]) for x in (train, test)]
    found = f"the lists {train_file.name} and {test_file.name} in {train_file.parent}"
    return Listing(*halves, names, found, (train_file, test_file))


def _read_text(file):
    paths, classes = [], []
    for number, line in enumerate(file.read_text(errors="surrogateescape").splitlines(), 1):
        if not line.strip():
            continue
        parts = line.strip().rsplit("\t" if "\t" in line else None, 1)
        if len(parts) != 2:
            raise DataError(f"{file}, line {number}: {line!r} is not a path and a class; write `path class`")
        paths.append(parts[0].lstrip("/"))
        classes.append(parts[1])
    return _List(file, paths, classes, {})


def _read_json(file):
    try:
        record = json.loads(file.read_text())
        path_of = {image["id"]: image["file_name"].lstrip("/") for image in record["images"]}
        pairs = [(path_of[row["image_id"]], str(row["category_id"])) for row in record["annotations"]]
        names = {str(row["id"]): row["name"] for row in record.get("categories", ())}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} cannot be read as annotations ({error!r}); fetch it again") from error
    return _List(file, [path for path, _ in pairs], [name for _, name in pairs], names)


def _classes(train):
    """The label of each class as it is written, and the names of all classes."""
    written = sorted(set(train.classes))
    numbered = [c for c in written if c.lstrip("-").isdecimal()]
    if not numbered:
        return {c: label for label, c in enumerate(written)}, tuple(written)
    if len(numbered) < len(written):
        name = next(c for c in written if c not in numbered)
        raise DataError(f"{train.file} has classes by number and by name ({name!r}); write all of them in one way")
    numbers = sorted(int(c) for c in written)
    if wrong := next((pair for pair in enumerate(numbers) if pair[0] != pair[1]), None):
        raise DataError(
            f"{train.file}: class {wrong[1]} comes where class {wrong[0]} should; the numbers of the classes must run "
            f"from 0 on without a gap, each with an image"
        )
    label_of = {c: int(c) for c in written}
    return label_of, _names(train, label_of)


def _names(train, label_of):
    """The names of numbered classes: from the list, else of the folder that all images of the class lie in, if it is
    theirs alone; else the numbers."""
    if len(set(train.names.values())) == len(label_of) == len(train.names):
        return tuple(train.names[c] for c in sorted(label_of, key=label_of.get))
    folders = [path.rpartition("/")[0] for path in train.paths]
    pairs = set(zip(train.classes, folders, strict=True))
    if not len(pairs) == len(set(folders)) == len(label_of) > 1:
        return tuple(str(label) for label in range(len(label_of)))
    shared = len(os.path.commonpath(set(folders)))
    return tuple(folder[shared:].lstrip("/") for _, folder in sorted(pairs, key=lambda pair: label_of[pair[0]]))


def _located(one, folders, hint):
    """The paths of a list below the folder in which they begin."""
    first = Path(one.paths[0])
    start = max(folders, key=lambda f: ((f / first).is_file(), (f / first.parts[0]).exists()))  # of equals, the first
    paths = [os.path.join(start, path) for path in one.paths]
    if missing := _missing(paths):
        more = f"; {hint}" if hint else "; unpack them, or take them off the list"
        raise DataError(
            f"{len(missing)} of the {len(paths)} images in {one.file} are missing, first {missing[0]}{more}"
        )
    return paths


def _missing(paths):
    """The paths where no file is. Folders are read once each: on a network drive, asking file by file takes minutes."""
    inside = {}
    for folder in {path.rpartition("/")[0] for path in paths}:
        inside[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else ()
    split = (path.rpartition("/") for path in paths)
    return [path for path, (folder, _, name) in zip(paths, split, strict=True) if name not in inside[folder]]
