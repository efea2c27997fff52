"""Where images come from: one way in, whatever the layout on disk.

Each source is looked for under a root folder as torchvision keeps it, as parquet files as the Hugging Face hub has
them, and as folders of images; then it is downloaded where that is possible. The result is always two ImageSets.
"""

import hashlib
import io
import json
import os
import urllib.error
import warnings
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..errors import DataError, LtkdError
from ..files import cache_folder, project_folder, write_bytes
from .images import ImageSet

ANNOTATIONS = "val_annotations.txt"
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}


class Source(NamedTuple):
    """All images of a data set before any subset is taken; `found` says in words where."""

    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    found: str


@dataclass(frozen=True)
class Layout:
    """How one data set may lie on disk and where it is downloaded from.

    torchvision: the class in torchvision.datasets that reads and downloads it. archive: (url, md5) of a zip of image
    folders. folders: names of its folder under the root.
    """

    folders: tuple[str, ...]
    torchvision: str | None = None
    archive: tuple[str, str] | None = None


LAYOUTS = {
    "cifar10": Layout(("cifar10", "cifar-10"), torchvision="CIFAR10"),
    "cifar100": Layout(("cifar100", "cifar-100"), torchvision="CIFAR100"),
    "tiny-imagenet": Layout(
        ("tiny-imagenet", "tiny-imagenet-200", "tiny_imagenet"),
        archive=("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"),
    ),
}


def data_root(root=None):
    """The folder where data are looked for: `root`, else LTKD_DATA, else data/downloads of the project."""
    return Path(root or os.environ.get("LTKD_DATA") or project_folder() / "data" / "downloads").expanduser()


def digits(*, root=None, image_size=None):
    """scikit-learn's 1,797 hand-written digits, 8 x 8, grey: 50 images a class for the test, 124 for training."""
    del root  # they come with scikit-learn
    pixels, labels = _digits_arrays()
    whole = _image_set([_resize(Image.fromarray(x), image_size) for x in pixels], labels)
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
    if layout.torchvision and (source := _from_torchvision(layout, root, places, image_size)):
        return source
    for place in places:
        if any(place.rglob("*.parquet")):
            return _cached(place, "*.parquet", image_size, _read_parquet)
        if (place / "train").is_dir():
            return read_folder(place, image_size=image_size)
    if download and _download(layout, root):
        return find(name, root=root, image_size=image_size, download=False)
    raise DataError(_not_found(name, layout, places))


def _not_found(name, layout, places):
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
    sets = [_image_set([_resize(Image.fromarray(x), image_size) for x in h.data], h.targets) for h in halves]
    return Source(*sets, tuple(halves[0].classes), f"torchvision's files in {place / reader.base_folder}")


def _download(layout, root):
    """Try to download into `root`, with a progress bar; False where there is no network."""
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        if layout.torchvision:
            _torchvision_class(layout)(root, download=True)
        else:
            url, md5 = layout.archive
            download_and_extract_archive(url, root, filename=Path(url).name, md5=md5, remove_finished=True)
    except urllib.error.URLError:
        return False
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(f"the download into {root} failed ({error}); free space there and try again") from error
    return True


# --- parquet -----------------------------------------------------------------------------------------------------


def _read_parquet(place, files, image_size):
    halves = [[f for f in files if f.name.startswith(prefixes)] for prefixes in (("train",), ("test", "val"))]
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
            _decode(io.BytesIO(row["bytes"]), f"image {i} of {file}", image_size)
            for i, row in enumerate(table[image_column].to_pylist())
        ]
    names = names or tuple(str(c) for c in range(max(labels) + 1))
    return _image_set(images, labels), names


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


# --- folders of images -------------------------------------------------------------------------------------------


def read_folder(place, *, image_size=None):
    """A source from `train/<class>/*` and `test/<class>/*` (or `val`); a class's images may lie in subfolders."""
    place = Path(place)
    if not (place / "train").is_dir():
        raise DataError(f"{place} has no folder 'train'; needed are train/<class>/* and test/<class>/* (or val)")
    return _cached(place, "*", image_size, _read_folder)


def _read_folder(place, files, image_size):
    names = tuple(sorted(f.name for f in (place / "train").iterdir() if f.is_dir() and f.name[0] != "."))
    # TinyImageNet's own archive has a test/ without labels, and lists the classes of val/ in a file.
    halves = ("val", "test") if (place / "val" / ANNOTATIONS).is_file() else ("test", "val")
    test_folder = next((place / name for name in halves if (place / name).is_dir()), None)
    if not names or test_folder is None:
        raise DataError(f"{place} needs class folders in train/ and in test/ (or val/)")
    by_class = {split: _files_by_class(split, files) for split in (place / "train", test_folder)}
    sets = []
    for split, found in by_class.items():
        if strangers := sorted(set(found) - set(names)):
            raise DataError(f"{split / strangers[0]} is a class that {place / 'train'} has not; remove or rename it")
        pairs = [(file, label) for label, name in enumerate(names) for file in found.get(name, ())]
        images = [_decode(file, file, image_size) for file, _ in pairs]
        sets.append(_image_set(images, [label for _, label in pairs]))
    return Source(*sets, names, f"image folders in {place}")


def _files_by_class(split, files):
    if (split / ANNOTATIONS).is_file():
        rows = [line.split("\t") for line in (split / ANNOTATIONS).read_text().splitlines()]
        listed = {split / "images" / row[0]: row[1] for row in rows}
    else:
        inside = [(f, f.relative_to(split).parts) for f in files if split in f.parents and f.parent != split]
        listed = {f: parts[0] for f, parts in inside if parts[0][0] != "."}  # not .ipynb_checkpoints and the like
    by_class = {}
    for file in files:
        if file in listed and file.suffix.lower() in IMAGE_SUFFIXES:
            by_class.setdefault(listed[file], []).append(file)
    return by_class


# --- decoding ----------------------------------------------------------------------------------------------------


def _decode(file, description, image_size):
    try:
        with Image.open(file) as image:
            if image.mode.startswith("I"):  # 16 bits of grey, which convert() would cut off at 255
                image = Image.fromarray((np.asarray(image).astype(np.int32) >> 8).astype(np.uint8))
            return _resize(image.convert("RGB"), image_size)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{description} cannot be decoded ({error}); remove it or fetch it again") from error


def _resize(image, image_size):
    """Scale the shorter side to `image_size`, then cut out the middle."""
    if image_size is None or image.size == (image_size, image_size):
        return image
    scale = image_size / min(image.size)
    width, height = (max(image_size, round(side * scale)) for side in image.size)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return image.crop((left, top, left + image_size, top + image_size))


def _image_set(images, labels):
    if not images:
        raise DataError("there is not a single image in one half of the data; needed are images to train and to test")
    if len(sizes := {image.size for image in images}) > 1 or any(w != h for w, h in sizes):
        shown = " and ".join(f"{w} x {h}" for w, h in sorted({min(sizes), max(sizes)}))
        raise DataError(
            f"the images must be squares of one size, but some are {shown} pixels; choose a side length with "
            f"--image-size (image_size=): the shorter side is scaled to it and the middle is cut out"
        )
    side = images[0].width
    pixels = np.stack([np.asarray(image).reshape(side, side, -1) for image in images])
    return ImageSet(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.as_tensor(labels).long())


# --- the cache of decoded images ---------------------------------------------------------------------------------


def _cached(place, pattern, image_size, read):
    """`read(place, files, image_size)`, or its result of an earlier call on the very same files."""
    from safetensors import SafetensorError, safe_open

    files = sorted(f for f in place.rglob(pattern) if f.is_file())
    stored_at = cache_folder() / f"{place.name}-{image_size}-{fingerprint(place, pattern)}.safetensors"
    if stored_at.is_file():
        try:
            with safe_open(stored_at, "pt") as stored:
                sets = [ImageSet(stored.get_tensor(f"{s}.images"), stored.get_tensor(f"{s}.labels")) for s in SPLITS]
                return Source(*sets, tuple(json.loads(stored.metadata()["class_names"])), stored.metadata()["found"])
        except (SafetensorError, OSError, KeyError, ValueError):
            stored_at.unlink(missing_ok=True)  # a damaged cache is only a slow start
    source = read(place, files, image_size)
    _store(stored_at, source)
    return source


def fingerprint(place, pattern="*", *, with_times=True):
    """Sixteen hexadecimal digits of a folder's files: names and sizes, and with times also where they lie and when
    they were changed."""
    place = Path(place)
    stats = [(f, f.stat()) for f in sorted(place.rglob(pattern)) if f.is_file()]
    rows = [[str(f.relative_to(place)), s.st_size, s.st_mtime_ns if with_times else 0] for f, s in stats]
    where = str(place.resolve()) if with_times else ""
    return hashlib.sha256(json.dumps([where, rows]).encode()).hexdigest()[:16]


SPLITS = ("train", "test")


def _store(path, source):
    from safetensors.torch import save

    tensors = {f"{s}.{part}": getattr(getattr(source, s), part) for s in SPLITS for part in ("images", "labels")}
    try:
        write_bytes(path, save(tensors, {"class_names": json.dumps(source.class_names), "found": source.found}))
    except LtkdError as error:
        warnings.warn(f"decoded images are not kept for the next start: {error}", stacklevel=2)
