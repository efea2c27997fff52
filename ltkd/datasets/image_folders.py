"""A folder of images as a data set: held in memory if it is small enough, else read from disk as needed.

Its images lie in class folders, or two lists name them, or they lie in parquet files.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .._support.fingerprint import digest
from ..errors import ConfigError, DataError
from .cache import cached
from .decoding import decode_all, is_image, opened
from .image_files import ImageFiles
from .image_lists import Half, Listing, composed, listed, text_of
from .images import MEMORY, Source, image_set
from .inspection import Facts, inspect, notes_on, refuse_faults, white_of_all
from .parquet import check_memory, parquet_files, parquet_version, read_parquet
from .repeats import Contents, repeats

TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
OF_SYSTEMS = {"__MACOSX", "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
ANNOTATIONS = "val_annotations.txt"  # TinyImageNet's own


def read_folder(place: str | os.PathLike[str], image_size: int | None = None) -> Source:
    """The data set in a folder.

    The first of these that is there counts: the lists train.txt and test.txt of lines `path class`; the class folders
    train/<class>/* and test/<class>/*; parquet files train-* and test-*. Instead of test, val or validation are also
    read. image_size: scale and crop each image to this many pixels a side; None: the images are squares of one size.

    Raises DataError for images that are missing or damaged, ConfigError for more than can be held without image_size.
    """
    place = Path(place)
    listing = _listing(place)
    if listing is None:
        packed = _parquet(place)
        check_memory(place, packed, image_size)
        return read_parquet(place, packed, image_size)
    facts = _facts(listing)
    files = (*listing.train.paths, *listing.test.paths)
    white = white_of_all(files, facts)
    notes = (*([_passed_over(listing.passed)] if listing.passed else ()), *notes_on(files, facts))
    doubts = repeats(*_contents(place, listing, facts), listing.class_names)
    if image_size and _decoded_size(listing, image_size**2) > MEMORY:
        return streamed(listing, image_size, white=white)._replace(notes=notes, doubts=doubts)
    version = _version(listing, facts)
    source = cached(place, version, image_size, lambda: _held(listing, image_size, white))
    return source._replace(notes=notes, doubts=doubts)


def version(folder: str | os.PathLike[str]) -> str:
    """Sixteen hexadecimal digits: a hash of the content of a folder's images, in their order, with their classes.

    Files that are not used do not count. Each file is read once; see `inspection`. Raises DataError as `read_folder`.
    """
    place = Path(folder)
    listing = _listing(place)
    return _version(listing, _facts(listing)) if listing else parquet_version(_parquet(place))


def _listing(place: Path) -> Listing | None:
    """The images in lists or class folders; None if there are neither."""
    if lists := _lists(place):
        return listed(*lists, [place, place.resolve().parent, Path("/")])
    train = _part(place, TRAIN)
    return class_folders(train, _test_folder(place)) if train else None


def _parquet(place: Path) -> list[Path]:
    files = parquet_files(place)
    if not files:
        raise DataError(
            f"{place} has neither train/ nor train.txt; needed are train/<class>/* and test/<class>/* (or val), "
            f"lists train.txt and test.txt (or val.txt) of lines `path class`, or train-*.parquet and "
            f"test-*.parquet"
        )
    return files


def _part(place: Path, names: Sequence[str], suffix: str = "") -> Path | None:
    """The folder, or with a suffix the file, of the first of these names that is there, in letters of any case."""
    there = sorted(os.listdir(place))
    for name in names:
        found = [place / x for x in there if x.lower() == name + suffix]
        found = [x for x in found if (x.is_file() if suffix else x.is_dir())]
        if len(found) > 1:
            raise DataError(f"{place} has both {found[0].name} and {found[1].name}; rename one of them")
        if found:
            return found[0]
    return None


# --- what the files say ------------------------------------------------------------------------------------------


def _facts(listing: Listing) -> list[Facts]:
    """The Facts of all images, those to train on first. Raises DataError about all that are no images."""
    files = [*listing.train.paths, *listing.test.paths]
    facts = inspect(files)
    refuse_faults(files, facts)
    return facts


def _version(listing: Listing, facts: Sequence[Facts]) -> str:
    contents = [each.content for each in facts]
    return digest([contents, listing.train.labels, listing.test.labels, listing.class_names], 16)


def _contents(place: Path, listing: Listing, facts: Sequence[Facts]) -> tuple[Contents, Contents]:
    def half(images: Half, facts: Sequence[Facts]) -> Contents:
        return Contents([f.content for f in facts], images.labels, lambda i: os.path.relpath(images.paths[i], place))

    n = len(listing.train.paths)
    return half(listing.train, facts[:n]), half(listing.test, facts[n:])


def _passed_over(files: Sequence[str]) -> str:
    return f"{len(files)} files are passed over, first {files[0]}: their names are not those of images"


def streamed(listing: Listing, image_size: int, *, uneven: bool = False, white: float | None = None) -> Source:
    """A data set whose images stay on disk. uneven: as in Source. white: as in ImageFiles."""
    train, test = (ImageFiles(half.paths, half.labels, image_size, white) for half in (listing.train, listing.test))
    return Source(train, test, listing.class_names, f"{listing.found}, read from disk as needed", uneven)


def _lists(place: Path) -> tuple[Path, Path] | None:
    train, test = (_part(place, names, ".txt") for names in (TRAIN, TEST))
    return (train, test) if train and test else None


def _test_folder(place: Path) -> Path:
    # TinyImageNet's own archive has a test/ without labels, and lists the classes of val/ in a file.
    annotated = (place / "val" / ANNOTATIONS).is_file()
    test = place / "val" if annotated else _part(place, TEST)
    if test is None:
        raise DataError(f"{place} needs class folders in train/ and in test/ (or val/)")
    return test


def _decoded_size(listing: Listing, pixels: int) -> int:
    return 3 * pixels * (len(listing.train.paths) + len(listing.test.paths))


def _held(listing: Listing, image_size: int | None, white: float | None) -> Source:
    if image_size is None:
        _check_size(listing)
    files, n = (*listing.train.paths, *listing.test.paths), len(listing.train.paths)
    images = decode_all([(file, file) for file in files], image_size, white)
    train, test = image_set(images[:n], listing.train.labels), image_set(images[n:], listing.test.labels)
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
    found = [_by_class(split) for split in (train, test)]
    passed = tuple(file for _, others in found for file in others)
    names = tuple(sorted(found[0][0]))
    for split, (by_class, others) in zip((train, test), found, strict=True):
        if not any(by_class.values()):
            why = f" ({_passed_over(others)})" if others else ""
            raise DataError(f"{split} has no image in class folders; needed are {split}/<class>/*{why}")
    if strangers := sorted(name for name, files in found[1][0].items() if files and name not in names):
        raise DataError(f"{test / strangers[0]} is a class that {train} has not; remove or rename it")
    first, second = (_half(by_class, names) for by_class, _ in found)
    return Listing(first, second, names, f"image folders in {train.parent}", passed)


def _half(by_class: dict[str, list[str]], names: Sequence[str]) -> Half:
    pairs = [(file, label) for label, name in enumerate(names) for file in by_class.get(name, ())]
    return Half([file for file, _ in pairs], [label for _, label in pairs])


def _by_class(split: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The images of each class, and the files that are none. The name of a class is in its composed form, since a Mac
    writes é as two characters, and other systems as one."""
    above = [os.fspath(folder) for folder in (split.resolve(), *split.resolve().parents)]
    class_of = _annotations(split / ANNOTATIONS) if (split / ANNOTATIONS).is_file() else None
    by_class: dict[str, list[str]] = {}
    passed = []
    for entry in _entries(split):
        if not entry.is_dir():
            passed += [entry.path] if entry.name != ANNOTATIONS else []
            continue
        files = sorted(_files_under(entry.path, above), key=lambda file: file.split(os.sep))
        images = [file for file in files if is_image(file)]
        if class_of is None:
            by_class.setdefault(composed(entry.name), [])  # a class without images is to be named
        passed += [file for file in files if not is_image(file)]
        for file in images:
            name = composed(entry.name) if class_of is None else class_of.get(os.path.basename(file))
            if name is not None:
                by_class.setdefault(name, []).append(file)
    return by_class, passed


def _annotations(file: Path) -> dict[str, str]:
    """The class of each image of TinyImageNet's own val/, by the image's name."""
    rows = [line.split("\t") for line in text_of(file).splitlines() if line.strip()]
    if bad := next((row for row in rows if len(row) < 2), None):
        raise DataError(f"{file}: the line {bad[0]!r} is not an image, a tab and its class; fetch the file again")
    return {row[0]: row[1] for row in rows}


def _files_under(folder: str, above: Sequence[str]) -> Iterator[str]:
    """All files in a folder and its subfolders. above: the real paths of the folders around it; a link back to one of
    them is not followed."""
    here = os.path.realpath(folder)
    if here in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _files_under(entry.path, [*above, here])
        else:
            yield entry.path


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """What lies in a folder, without what systems and editors put there."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if e.name[0] != "." and e.name not in OF_SYSTEMS), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}); allow it, or remove the folder") from error
