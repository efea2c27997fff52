"""Where images come from: one way in, whatever the layout on disk.

Each source is looked for under a root folder as torchvision keeps it, as parquet files as the Hugging Face hub has
them, and as folders of images; then it is downloaded where that is possible.
"""

import io
import json
import os
import tempfile
import urllib.error
import zipfile
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from .._support.storage import TEMPORARY, alone, project_folder
from ..errors import DataError
from .cache import cached
from .decoding import decode, resize
from .image_folders import read_folder
from .images import Size, Source, image_set


class Missing(DataError):
    """A data set of which there is no copy, not even a damaged one."""


@dataclass(frozen=True)
class Layout:
    """How one data set may lie on disk and where it is downloaded from.

    folders: names of its folder under the root. recipe: the name of its defaults, a key of RECIPES. size: as it comes,
    so that a cost can be told without it. torchvision: the class in torchvision.datasets that reads and downloads it.
    archive: (url, md5) of a zip of image folders.
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


def data_root(root=None):
    """The folder where data are looked for: `root`, else LTKD_DATA, else data/downloads of the project."""
    return Path(root or os.environ.get("LTKD_DATA") or _downloads()).expanduser()


def _downloads():
    return project_folder() / "data" / "downloads"


def digits(*, root=None, image_size=None):
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
def _digits_arrays():
    """Pixels (1797, 8, 8) from 0 to 255, and labels; read once, since parsing them takes longer than an epoch."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target


def find(name, *, root=None, image_size=None, download=True):
    """The source called `name`, a key of LAYOUTS, from wherever it lies; images resized to `image_size` if given."""
    layout, root = LAYOUTS[name], data_root(root)
    places = [root / folder for folder in layout.folders]
    look = partial(_look, layout, root, places, image_size)
    source = look()
    if source is None and download:
        if not root.is_dir() and root != _downloads():
            raise Missing(
                f"there is no folder {root} to look for {name!r} in; name another one with --data or LTKD_DATA, or "
                f"make it, to have the data set downloaded into it"
            )
        with alone(root / f".{name}.lock", f"waiting for another process, which downloads {name!r} into {root}"):
            source = look()  # the other one may have put it there
            if source is None and _download(layout, root):
                source = look()
    if source is None:
        raise Missing(_not_found(name, layout, root, places))
    return source


def _look(layout, root, places, image_size):
    """The source that lies in one of the places, or None."""
    if layout.torchvision and (source := _from_torchvision(layout, root, places, image_size)):
        return source
    for place in places:
        if files := sorted(place.rglob("*.parquet")):
            return cached(place.name, files, image_size, partial(_read_parquet, place, files, image_size))
        if (place / "train").is_dir():
            return read_folder(place, image_size=image_size)
    return None


def _not_found(name, layout, root, places):
    layouts = [
        "parquet files train-*.parquet and test-*.parquet (or valid-*), as on the Hugging Face hub",
        "folders of images train/<class>/* and test/<class>/* (or val/<class>/*)",
    ]
    if layout.torchvision:
        layouts.insert(0, f"torchvision's own folder {_torchvision_class(layout).base_folder}/")
    return (
        f"data set {name!r} not found and not downloadable from here. Looked in {', '.join(map(str, places))}. "
        f"Put one of these there: {'; '.join(layouts)}. Or put a file that `python -m ltkd pack-data` wrote into "
        f"{root}, or name another root with --data or LTKD_DATA"
    )


# --- torchvision -------------------------------------------------------------------------------------------------


def _torchvision_class(layout):
    import torchvision

    return getattr(torchvision.datasets, layout.torchvision)


def _from_torchvision(layout, root, places, image_size):
    reader = _torchvision_class(layout)
    for place in (root, *places):
        if (place / reader.base_folder).is_dir():
            return _read_torchvision(reader, place, image_size)
    return None


def _read_torchvision(reader, place, image_size):
    try:
        halves = [reader(place, train=train) for train in (True, False)]
    except (RuntimeError, OSError, EOFError) as error:
        raise DataError(
            f"{place / reader.base_folder} is not a whole copy of {reader.__name__} ({error}); delete that folder and "
            f"let it be downloaded again"
        ) from error
    sets = [image_set([resize(Image.fromarray(x), image_size) for x in h.data], h.targets) for h in halves]
    return Source(*sets, tuple(halves[0].classes), f"torchvision's files in {place / reader.base_folder}")


def _download(layout, root):
    """Try to download into `root`, with a progress bar; False where there is no network. The archive is unpacked
    elsewhere, so that whoever looks meanwhile finds nothing or the whole."""
    from torchvision.datasets.utils import download_and_extract_archive

    if layout.torchvision:
        url, md5 = _torchvision_class(layout).url, _torchvision_class(layout).tgz_md5
    else:
        url, md5 = layout.archive
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


# --- parquet -----------------------------------------------------------------------------------------------------


def _read_parquet(place, files, image_size):
    train, test, val = ([f for f in files if f.name.startswith(half)] for half in ("train", "test", "val"))
    halves = train, test or val
    if not all(halves):
        raise DataError(f"{place} needs train-*.parquet and test-*.parquet (or valid-*.parquet), found only {files[0]}")
    (train, names), (test, _) = (_read_parquet_half(half, image_size) for half in halves)
    for split in (train, test):
        if not 0 <= int(split.labels.min()) <= int(split.labels.max()) < len(names):
            raise DataError(
                f"{place} has labels outside of 0 to {len(names) - 1}; the training files name {len(names)} classes"
            )
    return Source(train, test, names, f"parquet files in {place}")


def _read_parquet_half(files, image_size):
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    images, labels, names = [], [], None
    for file in files:
        try:
            table = pq.read_table(file)
        except (ArrowException, OSError) as error:
            raise DataError(f"{file} cannot be read as parquet: is it cut off? Delete it and fetch it again") from error
        image_column, label_column = _parquet_columns(file, table.column_names)
        labels += table[label_column].to_pylist()
        names = names or _parquet_names(table.schema, label_column)
        images += [
            decode(io.BytesIO(row["bytes"]), f"image {i} of {file}", image_size)
            for i, row in enumerate(table[image_column].to_pylist())
        ]
    names = names or tuple(str(c) for c in range(max(labels) + 1))
    return image_set(images, labels), names


def _parquet_columns(file, columns):
    image = next((c for c in ("img", "image") if c in columns), None)
    label = next((c for c in ("fine_label", "label") if c in columns), None)
    if not image or not label:
        raise DataError(
            f"{file} has the columns {', '.join(columns)}; needed are 'img' or 'image', and 'label' or 'fine_label'"
        )
    return image, label


def _parquet_names(schema, label_column):
    """Class names from the metadata that the Hugging Face hub writes, if they are there."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return tuple(features[label_column]["names"])
    except (KeyError, TypeError, ValueError):
        return None
