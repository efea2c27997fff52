"""A folder of images as a data set: held in memory if it is small enough, else read from disk as needed.

Its images lie in class folders, or two lists name them, or they lie in parquet files.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .._support.fingerprint import folder_fingerprint
from ..errors import ConfigError, DataError
from .cache import cached
from .decoding import IMAGE_SUFFIXES, decode, opened
from .image_files import ImageFiles
from .images import MEMORY, Source, image_set
from .parquet import check_memory, parquet_files, read_parquet

ANNOTATIONS = "val_annotations.txt"  # TinyImageNet's own


class Half(NamedTuple):
    """The image files to train on, or those to test on, and their labels."""

    paths: list[str]
    labels: list[int]


class Listing(NamedTuple):
    """All image files of a data set, before any is decoded.

    found: in words, where they are. also: other files that shape the data set.
    """

    train: Half
    test: Half
    class_names: tuple[str, ...]
    found: str
    also: tuple[Path, ...] = ()


def read_folder(place: str | os.PathLike[str], image_size: int | None = None) -> Source:
    """The data set in a folder.

    The first of these that is there counts: the lists train.txt and test.txt (or val.txt) of lines `path class`; the
    class folders train/<class>/* and test/<class>/* (or val/<class>/*); parquet files train-* and test-* (or valid-*).
    image_size: scale and crop each image to this many pixels a side; None: the images are squares of one size.

    Raises DataError for images that are missing or damaged, ConfigError for more than can be held without image_size.
    """
    place = Path(place)
    if lists := _lists(place):
        listing = listed(*lists, [place, place.resolve().parent, Path("/")])
    elif (place / "train").is_dir():
        listing = class_folders(place / "train", _test_folder(place))
    else:
        files = parquet_files(place)
        if not files:
            raise DataError(
                f"{place} has neither train/ nor train.txt; needed are train/<class>/* and test/<class>/* (or val), "
                f"lists train.txt and test.txt (or val.txt) of lines `path class`, or train-*.parquet and "
                f"test-*.parquet"
            )
        check_memory(place, files, image_size)
        return read_parquet(place, files, image_size)
    if image_size and _decoded_size(listing, image_size**2) > MEMORY:
        return streamed(listing, image_size)
    decoded_from = [*listing.train.paths, *listing.test.paths, *map(str, listing.also)]
    return cached(place.name, decoded_from, image_size, lambda: _held(listing, image_size))


def version(folder: str | os.PathLike[str]) -> str:
    """A short fingerprint of a folder's files (names and sizes, and its lists), by which a run notices a change."""
    return folder_fingerprint(folder, _lists(Path(folder)) or ())


def streamed(listing: Listing, image_size: int, *, uneven: bool = False) -> Source:
    """A data set whose images stay on disk. uneven: as in Source."""
    train, test = (ImageFiles(half.paths, half.labels, image_size) for half in (listing.train, listing.test))
    return Source(train, test, listing.class_names, f"{listing.found}, read from disk as needed", uneven)


def _lists(place: Path) -> tuple[Path, Path] | None:
    train, *tests = (place / f"{half}.txt" for half in ("train", "test", "val"))
    test = next((file for file in tests if file.is_file()), None)
    return (train, test) if train.is_file() and test else None


def _test_folder(place: Path) -> Path:
    # TinyImageNet's own archive has a test/ without labels, and lists the classes of val/ in a file.
    names = ("val", "test") if (place / "val" / ANNOTATIONS).is_file() else ("test", "val")
    test = next((place / name for name in names if (place / name).is_dir()), None)
    if test is None:
        raise DataError(f"{place} needs class folders in train/ and in test/ (or val/)")
    return test


def _decoded_size(listing: Listing, pixels: int) -> int:
    return 3 * pixels * (len(listing.train.paths) + len(listing.test.paths))


def _held(listing: Listing, image_size: int | None) -> Source:
    if image_size is None:
        _check_size(listing)
    halves = (listing.train, listing.test)
    train, test = (image_set([decode(f, f, image_size) for f in half.paths], half.labels) for half in halves)
    return Source(train, test, listing.class_names, listing.found)


def _check_size(listing: Listing) -> None:
    """Raise ConfigError if the images, all as large as the first, are too many to hold."""
    first = listing.train.paths[0]
    with opened(first, first) as image:
        size = _decoded_size(listing, image.width * image.height)
    if size > MEMORY:
        raise ConfigError(
            f"the images of {listing.found} are {size / 1e9:.0f} GB when decoded, too many to hold; give --image-size "
            f"(image_size=), such as 224, and they are read from disk as they are needed, scaled to it"
        )


# --- class folders -----------------------------------------------------------------------------------------------


def class_folders(train: Path, test: Path) -> Listing:
    """The images in `train`/<class>/* and `test`/<class>/*; a class's images may lie in subfolders.

    Raises DataError if one half has no image, or if `test` has a class that `train` does not have.
    """
    by_class = {split: _images_by_class(split) for split in (train, test)}
    names = tuple(sorted(by_class[train]))
    for split, found in by_class.items():
        if not any(found.values()):
            raise DataError(f"{split} has no image in class folders; needed are {split}/<class>/*")
    if strangers := sorted(name for name, files in by_class[test].items() if files and name not in names):
        raise DataError(f"{test / strangers[0]} is a class that {train} has not; remove or rename it")
    also = tuple(split / ANNOTATIONS for split in (train, test) if (split / ANNOTATIONS).is_file())
    first, second = (_half(by_class[split], names) for split in (train, test))
    return Listing(first, second, names, f"image folders in {train.parent}", also)


def _half(by_class: dict[str, list[str]], names: Sequence[str]) -> Half:
    pairs = [(file, label) for label, name in enumerate(names) for file in by_class.get(name, ())]
    return Half([file for file, _ in pairs], [label for _, label in pairs])


def _images_by_class(split: Path) -> dict[str, list[str]]:
    if (split / ANNOTATIONS).is_file():
        return _annotated(split)
    with os.scandir(split) as entries:
        folders = [entry for entry in entries if entry.is_dir() and entry.name[0] != "."]  # not .ipynb_checkpoints
    return {folder.name: _images_under(folder.path) for folder in folders}


def _annotated(split: Path) -> dict[str, list[str]]:
    """TinyImageNet's own val/, whose classes are in a file."""
    annotations = split / ANNOTATIONS
    rows = [line.split("\t") for line in annotations.read_text().splitlines() if line.strip()]
    if bad := next((row for row in rows if len(row) < 2), None):
        raise DataError(
            f"{annotations}: the line {bad[0]!r} is not an image, a tab and its class; fetch the file again"
        )
    class_of: dict[str, str] = {row[0]: row[1] for row in rows}
    by_class: dict[str, list[str]] = {}
    for file in _images_under(split / "images"):
        if name := class_of.get(os.path.basename(file)):
            by_class.setdefault(name, []).append(file)
    return by_class


def _images_under(folder: str | os.PathLike[str]) -> list[str]:
    walk = os.walk(os.fspath(folder), followlinks=True)
    found = [os.path.join(parent, name) for parent, _, names in walk for name in names if _is_image(name)]
    return sorted(found, key=lambda file: file.split(os.sep))


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


# --- lists -------------------------------------------------------------------------------------------------------


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
    if strangers := set(test.classes) - set(label_of):
        path, stranger = next((p, c) for p, c in zip(test.paths, test.classes, strict=True) if c in strangers)
        raise DataError(f"{test_file}: {path} is of class {stranger!r}, but {train_file} has no image of that class")
    first, second = (Half(_located(x, folders, hint), [label_of[c] for c in x.classes]) for x in (train, test))
    found = f"the lists {train_file.name} and {test_file.name} in {train_file.parent}"
    return Listing(first, second, names, found, (train_file, test_file))


def _read_text(file: Path) -> _List:
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


def _read_json(file: Path) -> _List:
    try:
        record: dict[str, Any] = json.loads(file.read_text())
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
    folders = [path.rpartition("/")[0] for path in train.paths]
    pairs = set(zip(train.classes, folders, strict=True))
    if not len(pairs) == len(set(folders)) == len(label_of) > 1:
        return tuple(str(label) for label in range(len(label_of)))
    shared = len(os.path.commonpath(set(folders)))
    return tuple(folder[shared:].lstrip("/") for _, folder in sorted(pairs, key=lambda pair: label_of[pair[0]]))


def _located(one: _List, folders: Sequence[Path], hint: str) -> list[str]:
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


def _missing(paths: Sequence[str]) -> list[str]:
    """The paths without a file. Each folder is read once: on a network drive, one question a file takes minutes."""
    split = [path.rpartition("/") for path in paths]
    folders = {folder for folder, _, _ in split}
    inside = {folder: set(os.listdir(folder)) if os.path.isdir(folder) else set() for folder in folders}
    return [path for path, (folder, _, name) in zip(paths, split, strict=True) if name not in inside[folder]]
