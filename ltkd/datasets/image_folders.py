"""A folder of images as a data set: held in memory where that is possible, else read from disk as needed."""

from pathlib import Path

from .._support.fingerprint import folder_fingerprint
from ..errors import ConfigError, DataError
from .cache import cached
from .decoding import decode, opened
from .image_files import ImageFiles
from .images import Source, image_set
from .listing import ANNOTATIONS, class_folders
from .lists import listed

MEMORY = 4e9  # bytes of decoded images that are held; more are read from disk as they are needed


def read_folder(place, *, image_size=None):
    """A source from a folder.

    It has the lists train.txt and test.txt (or val.txt) of lines `path class`, or else train/<class>/* and
    test/<class>/* (or val/<class>/*).
    """
    place = Path(place)
    listing = _listing(place)
    if image_size and _decoded_size(listing, image_size**2) > MEMORY:
        return streamed(listing, image_size)
    files = [*listing.train.paths, *listing.test.paths, *listing.also]
    return cached(place.name, files, image_size, lambda: _held(listing, image_size))


def version(folder):
    """A short fingerprint of a folder's files (names and sizes, and its lists), by which a run notices a change."""
    return folder_fingerprint(folder, _lists(Path(folder)) or ())


def streamed(listing, image_size, *, uneven=False):
    """A source whose images stay on disk."""
    halves = (ImageFiles(half.paths, half.labels, image_size) for half in listing.halves)
    return Source(*halves, listing.class_names, f"{listing.found}, read from disk as needed", uneven)


def _listing(place):
    if lists := _lists(place):
        return listed(*lists, [place, place.resolve().parent, Path("/")])
    if not (train := place / "train").is_dir():
        raise DataError(
            f"{place} has neither train/ nor train.txt; needed are train/<class>/* and test/<class>/* (or val), or "
            f"lists train.txt and test.txt (or val.txt) of lines `path class`"
        )
    # TinyImageNet's own archive has a test/ without labels, and lists the classes of val/ in a file.
    names = ("val", "test") if (place / "val" / ANNOTATIONS).is_file() else ("test", "val")
    test = next((place / name for name in names if (place / name).is_dir()), None)
    if test is None:
        raise DataError(f"{place} needs class folders in train/ and in test/ (or val/)")
    return class_folders(train, test)


def _lists(place):
    train, *tests = (place / f"{half}.txt" for half in ("train", "test", "val"))
    test = next((file for file in tests if file.is_file()), None)
    return (train, test) if train.is_file() and test else None


def _decoded_size(listing, pixels):
    return 3 * pixels * (len(listing.train.paths) + len(listing.test.paths))


def _held(listing, image_size):
    if image_size is None:
        _check_size(listing)
    sets = (image_set([decode(f, f, image_size) for f in half.paths], half.labels) for half in listing.halves)
    return Source(*sets, listing.class_names, listing.found)


def _check_size(listing):
    """Raise if the images, all as large as the first, are too many to hold."""
    first = listing.train.paths[0]
    with opened(first, first) as image:
        size = _decoded_size(listing, image.width * image.height)
    if size > MEMORY:
        raise ConfigError(
            f"the images of {listing.found} are {size / 1e9:.0f} GB when decoded, too many to hold; give --image-size "
            f"(image_size=), such as 224, and they are read from disk as they are needed, scaled to it"
        )
