"""Lists of images and their classes: text files of lines `path class`, or JSON files of annotations."""

import codecs
import json
import os
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from .arrays import renumbered


class Half(NamedTuple):
    """The image files to train on, or those to test on, and their labels."""

    paths: list[str]
    labels: list[int]


class Listing(NamedTuple):
    """All image files of a data set, before any is decoded.

    found: in words, where they are. passed: other files in the folders of the classes, which are passed over.
    """

    train: Half
    test: Half
    class_names: tuple[str, ...]
    found: str
    passed: tuple[str, ...] = ()


class _List(NamedTuple):
    """paths, classes: of each image, as written in the file. names: {class: its name}, if the file has them."""

    file: Path
    paths: list[str]
    classes: list[str]
    names: dict[str, str]


def listed(train_file: Path, test_file: Path, folders: Sequence[Path], hint: str = "") -> Listing:
    """The images that two lists name, line by line: `path class`, the class a whole number from 0 on or its name.

    A list may also be a JSON file of annotations like iNaturalist's. folders: where the paths may begin. hint: ends the
    error about missing images. Raises DataError for a file that cannot be read, and for images that are missing.
    """
    train, test = (_read_json(file) if file.suffix == ".json" else _read_text(file) for file in (train_file, test_file))
    for each in (train, test):
        if not each.paths:
            raise DataError(f"{each.file} names not a single image; write one a line: `path class`")
    label_of, names = _classes(train)
    first = Half(_located(train, folders, hint), [label_of[c] for c in train.classes])
    second = Half(_located(test, folders, hint), _test_labels(test, train, label_of))
    found = f"the lists {train_file.name} and {test_file.name} in {train_file.parent}"
    return Listing(first, second, names, found)


def _read_text(file: Path) -> _List:
    paths, classes = [], []
    for number, line in enumerate(text_of(file).splitlines(), 1):
        if not line.strip():
            continue
        parts = line.strip().rsplit("\t" if "\t" in line else None, 1)
        if len(parts) != 2:
            raise DataError(f"{file}, line {number}: {line!r} is not a path and a class; write `path class`")
        paths.append(parts[0].lstrip("/"))
        classes.append(composed(parts[1]))
    return _List(file, paths, classes, {})


def _read_json(file: Path) -> _List:
    try:
        record: dict[str, Any] = json.loads(text_of(file))
        path_of = {image["id"]: image["file_name"].lstrip("/") for image in record["images"]}
        pairs = [(path_of[row["image_id"]], str(row["category_id"])) for row in record["annotations"]]
        names = {str(row["id"]): row["name"] for row in record.get("categories", ())}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} cannot be read as annotations ({error!r}); fetch it again") from error
    return _List(file, [path for path, _ in pairs], [name for _, name in pairs], names)


def _classes(train: _List) -> tuple[dict[str, int], tuple[str, ...]]:
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


def _names(train: _List, label_of: dict[str, int]) -> tuple[str, ...]:
    """The names of numbered classes: those in the list; else of the folders, if each class has one of its own; else the
    numbers."""
    if len(set(train.names.values())) == len(label_of) == len(train.names):
        return tuple(train.names[c] for c in sorted(label_of, key=label_of.__getitem__))
    folders = [os.path.normpath(path).rpartition("/")[0] for path in train.paths]  # without "./", as commonpath is
    pairs = set(zip(train.classes, folders, strict=True))
    if not len(pairs) == len(set(folders)) == len(label_of) > 1:
        return tuple(str(label) for label in range(len(label_of)))
    shared = len(os.path.commonpath(set(folders)))
    return tuple(folder[shared:].lstrip("/") for _, folder in sorted(pairs, key=lambda pair: label_of[pair[0]]))


def _test_labels(test: _List, train: _List, label_of: dict[str, int]) -> list[int]:
    """The labels of the test images: by the names of their classes where both lists name all; else as written."""
    by_label = {label: train.names.get(c) for c, label in label_of.items()}
    names = [by_label[label] or "" for label in range(len(by_label))]
    if all(names) and len(set(names)) == len(names) and set(test.classes) <= set(test.names):
        ids = {c: number for number, c in enumerate(test.names)}
        numbers = np.array([ids[c] for c in test.classes])
        return renumbered(numbers, list(test.names.values()), names, str(test.file)).tolist()
    if strangers := set(test.classes) - set(label_of):
        path, stranger = next((p, c) for p, c in zip(test.paths, test.classes, strict=True) if c in strangers)
        raise DataError(f"{test.file}: {path} is of class {stranger!r}, but {train.file} has no image of that class")
    return [label_of[c] for c in test.classes]


def _located(one: _List, folders: Sequence[Path], hint: str) -> list[str]:
    """The paths of a list below the folder in which they begin."""
    first = Path(one.paths[0])
    start = max(folders, key=lambda f: ((f / first).is_file(), (f / first.parts[0]).exists()))  # of equals, the first
    paths = _as_on_disk([os.path.join(start, path) for path in one.paths])
    if missing := _missing(paths):
        more = f"; {hint}" if hint else "; unpack them, or take them off the list"
        raise DataError(
            f"{len(missing)} of the {len(paths)} images in {one.file} are missing, first {missing[0]}{more}"
        )
    return paths


def _as_on_disk(paths: Sequence[str]) -> list[str]:
    """The paths as the disk spells them, where a list writes é as one character and the disk as two, or the other way
    round."""

    @cache
    def spelled(path: str) -> str:
        if not path or os.path.lexists(path):
            return path
        folder, _, name = path.rpartition("/")
        folder = spelled(folder)
        return f"{folder}/{inside(folder).get(composed(name), name)}"

    @cache
    def inside(folder: str) -> dict[str, str]:
        return {composed(name): name for name in os.listdir(folder)} if os.path.isdir(folder) else {}

    return [path if path.isascii() else spelled(path) for path in paths]


def _missing(paths: Sequence[str]) -> list[str]:
    """The paths without a file. Each folder is read once: on a network drive, one question a file takes minutes."""
    split = [path.rpartition("/") for path in paths]
    folders = {folder for folder, _, _ in split}
    inside = {folder: set(os.listdir(folder)) if os.path.isdir(folder) else set() for folder in folders}
    return [path for path, (folder, _, name) in zip(paths, split, strict=True) if name not in inside[folder]]


def text_of(file: Path) -> str:
    """The text of a file, without the mark that Windows puts at its beginning. Names may be in any encoding."""
    data = file.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="surrogateescape")


def composed(name: str) -> str:
    """A name with each accent in its letter: a Mac stores é as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)
