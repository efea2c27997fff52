"""Data sets by name. A new one is a row of LAYOUTS, of large.PUBLISHED if two lists define it, or else of SOURCES.

A small data set is looked for under a root folder as torchvision keeps it, as parquet files of the Hugging Face hub,
and as folders of images; else it is downloaded if possible.
"""

import os
import tempfile
import urllib.error
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from .._support.storage import TEMPORARY, alone, chosen_folder, project_folder
from ..errors import ConfigError, DataError, unknown
from . import large
from .decoding import resize
from .image_folders import read_folder
from .images import LongTailedDataset, Size, Source, check_classes, checked, image_set
from .longtail import AS_IS, class_counts, longtail_indices
from .parquet import parquet_files, read_parquet


@dataclass(frozen=True)
class Layout:
    """How a small data set may lie on disk, and where it is downloaded from.

    folders: names of its folder under the root. recipe: the name of its defaults, a key of RECIPES. size: its size,
    known without the data, for estimates of the cost. torchvision: the class in torchvision.datasets that reads and
    downloads it. archive: (url, md5) of a zip of image folders.
    """

    folders: tuple[str, ...]
    recipe: str
    size: Size | None = None
    torchvision: str | None = None
    archive: tuple[str, str] | None = None


LAYOUTS = {
    "cifar10": Layout(("cifar10", "cifar-10"), "cifar10-bkd", Size(10, 5000, 10_000), torchvision="CIFAR10"),
    "cifar100": Layout(("cifar100", "cifar-100"), "cifar-crd", Size(100, 500, 10_000), torchvision="CIFAR100"),
    "tiny-imagenet": Layout(
        ("tiny-imagenet", "tiny-imagenet-200", "tiny_imagenet"),
        "tiny-imagenet-crd",
        Size(200, 500, 10_000, side=64),
        archive=("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"),
    ),
}
FOLDERS = frozenset(folder for layout in LAYOUTS.values() for folder in layout.folders)


class Known(NamedTuple):
    """A data set that has a name.

    read: a function (root folder, image_size) -> Source. recipe, size: as in Layout.
    """

    read: Callable[[Path, int | None], Source]
    recipe: str
    size: Size | None = None


def load(
    name: str | os.PathLike[str],
    *,
    imbalance_factor: float = 1,
    profile: str | Sequence[int] | None = None,
    root: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    seed: int = 0,
) -> LongTailedDataset:
    """A long-tailed data set.

    name: a key of SOURCES, or the path of a folder with class folders train/<class>/* and test/<class>/*, with lists
    train.txt and test.txt of lines `path class`, or with parquet files train-* and test-*.
    imbalance_factor: images of the largest class over images of the smallest, at least 1.
    profile: 'exp', 'exp-eq15', 'step', 'pareto', 'as-is' (every image of the source) or one count a class; by default
    'exp' if an imbalance factor is given, else 'as-is'.
    root: the folder in which data sets are looked for (default: LTKD_DATA, else data/downloads).
    image_size: resize the images to this many pixels a side.
    seed: draws the images that a class keeps; the subset for a larger factor lies inside that for a smaller one.

    Raises ConfigError for a bad parameter, DataError if images are missing, damaged or too few.

    >>> data = load("digits", imbalance_factor=20)
    >>> data.class_counts.tolist(), tuple(data.train.images.shape)
    ([124, 88, 63, 45, 32, 23, 16, 12, 8, 6], (417, 1, 8, 8))
    """
    if not (isinstance(imbalance_factor, Real) and 1 <= imbalance_factor < np.inf):
        raise ConfigError(f"imbalance_factor = {imbalance_factor!r}: must be a finite number of at least 1")
    if profile is None:
        profile = AS_IS if imbalance_factor == 1 else "exp"
    name = str(name)
    check_name(name)
    source = SOURCES[name].read(data_root(root), image_size) if name in SOURCES else read_folder(name, image_size)
    check_classes(source.train, source.test, source.class_names, source.found, source.notes)
    available = source.train.counts(len(source.class_names)).numpy()
    counts = class_counts(profile, imbalance_factor, available, capped=source.uneven)
    kept = longtail_indices(source.train.labels, counts, seed)
    doubts = () if name in SOURCES else source.doubts  # what all papers use is not to be mended
    train, notes = source.train.subset(kept), source.notes
    data = LongTailedDataset(name, train, source.test, source.class_names, source.found, notes=notes, doubts=doubts)
    return checked(data)


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` is a key of SOURCES or the path of a folder."""
    if name not in SOURCES and not os.path.isdir(name):
        if os.path.exists(name) or {os.sep, "/", "~"} & set(name):  # a path, not a name
            what = "is a file, not a folder" if os.path.exists(name) else "is not there"
            raise ConfigError(f"the folder {name} {what} (from {Path.cwd()}); a data set of your own is a folder")
        raise ConfigError(
            f"{unknown('data set', name, SOURCES)}, or the path of a folder with train/<class>/* and test/<class>/*, "
            f"with lists, or with parquet files"
        )


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder in which data sets are looked for: `root`, else LTKD_DATA, else data/downloads of the project.

    Raises ConfigError if `root` is empty or no path.
    """
    return chosen_folder("data_root", root, "LTKD_DATA", _downloads())


def _downloads() -> Path:
    return project_folder() / "data" / "downloads"


# --- digits ------------------------------------------------------------------------------------------------------


def digits(root: Path, image_size: int | None) -> Source:
    """scikit-learn's 1,797 hand-written digits, 8 x 8, grey: 50 images a class for the test, 124 for training."""
    del root  # they come with scikit-learn
    pixels, labels = _digits_arrays()
    whole = image_set([resize(Image.fromarray(x), image_size) for x in pixels], labels)
    order = np.random.default_rng(0).permutation(len(labels))  # the split is part of the data set: no seed of a run
    by_class = [order[labels[order] == c] for c in range(10)]
    return Source(
        whole.subset(np.concatenate([c[50:174] for c in by_class])),  # 174: the rarest digit's number of images
        whole.subset(np.concatenate([c[:50] for c in by_class])),
        tuple(str(c) for c in range(10)),
        "scikit-learn's digits",
    )


@cache
def _digits_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 8, 8) from 0 to 255, and labels; read once, since parsing them takes longer than an epoch."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target


# --- data sets with a layout -------------------------------------------------------------------------------------


def find(name: str, root: Path, image_size: int | None) -> Source:
    """The data set called `name`, a key of LAYOUTS, from any of its layouts; downloaded if it is not there.

    Raises DataError if it is neither there nor downloadable, or damaged.
    """
    layout = LAYOUTS[name]
    places = [root / folder for folder in layout.folders]
    look = partial(_look, layout, root, places, image_size)
    source = look()
    if source is None:
        if not root.is_dir() and root != _downloads():
            raise DataError(
                f"there is no folder {root} to look for {name!r} in; name another one with --data or LTKD_DATA, or "
                f"make it, to have the data set downloaded into it"
            )
        with alone(root / f".{name}.lock", f"waiting for another process, which downloads {name!r} into {root}"):
            source = look()  # another process may have downloaded it meanwhile
            if source is None and _download(layout, root):
                source = look()
    if source is None:
        raise DataError(_not_found(name, layout, places))
    return source


def _look(layout: Layout, root: Path, places: list[Path], image_size: int | None) -> Source | None:
    """The data set in the first of the places that has one."""
    if layout.torchvision and (source := _from_torchvision(layout, [root, *places], image_size)):
        return source
    for place in places:
        if files := parquet_files(place):
            return read_parquet(place, files, image_size)
        if (place / "train").is_dir():
            return read_folder(place, image_size)
    return None


def _not_found(name: str, layout: Layout, places: list[Path]) -> str:
    layouts = [
        "parquet files train-*.parquet and test-*.parquet (or valid-*), as on the Hugging Face hub",
        "folders of images train/<class>/* and test/<class>/* (or val/<class>/*)",
    ]
    if layout.torchvision:
        layouts.insert(0, f"torchvision's own folder {_torchvision_class(layout).base_folder}/")
    return (
        f"data set {name!r} not found and not downloadable from here. Looked in {', '.join(map(str, places))}. "
        f"Put one of these there: {'; '.join(layouts)}. Or name another root with --data or LTKD_DATA"
    )


def _torchvision_class(layout: Layout) -> Any:
    import torchvision

    return getattr(torchvision.datasets, str(layout.torchvision))


def _from_torchvision(layout: Layout, places: list[Path], image_size: int | None) -> Source | None:
    reader = _torchvision_class(layout)
    place = next((place for place in places if (place / reader.base_folder).is_dir()), None)
    if place is None:
        return None
    try:
        halves = [reader(place, train=train) for train in (True, False)]
    except (RuntimeError, OSError, EOFError) as error:
        raise DataError(
            f"{place / reader.base_folder} is not a whole copy of {reader.__name__} ({error}); delete that folder and "
            f"let it be downloaded again"
        ) from error
    train, test = (image_set([resize(Image.fromarray(x), image_size) for x in h.data], h.targets) for h in halves)
    return Source(train, test, tuple(halves[0].classes), f"torchvision's files in {place / reader.base_folder}")


def _download(layout: Layout, root: Path) -> bool:
    """Try to download into `root`, with a progress bar; False if there is no network. The archive is unpacked
    elsewhere and then moved, so that another process finds nothing or the whole."""
    from torchvision.datasets.utils import download_and_extract_archive

    if layout.archive:
        url, md5 = layout.archive
    else:
        url, md5 = _torchvision_class(layout).url, _torchvision_class(layout).tgz_md5
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=TEMPORARY) as unpacked:
            download_and_extract_archive(url, root, unpacked, md5=md5, remove_finished=not layout.torchvision)
            for folder in Path(unpacked).iterdir():
                folder.rename(root / folder.name)
    except urllib.error.URLError:
        return False
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"the download into {root} failed ({error}); make room there, or remove what is in the way, and try again"
        ) from error
    return True


# --- all names ---------------------------------------------------------------------------------------------------

SOURCES = {
    "digits": Known(digits, "digits", Size(10, 124, 500, channels=1, side=8)),
    **{name: Known(partial(find, name), layout.recipe, layout.size) for name, layout in LAYOUTS.items()},
    "imagenet-exp-lt": Known(large.imagenet, "imagenet-crd", Size(1000, 1300, 50_000, side=large.IMAGE_SIZE)),
    **{name: Known(partial(large.published, name), row.recipe, row.size) for name, row in large.PUBLISHED.items()},
}
