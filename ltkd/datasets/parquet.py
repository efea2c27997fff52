"""Images and labels in parquet files, in the layout of the Hugging Face hub: read, and written by `pack-data`.

train-*.parquet and test-*.parquet (or valid-*.parquet) lie anywhere in a folder. A row is an image: a column `img` or
`image` of encoded bytes, and a column `fine_label` or `label` of class numbers. The class names stand in the metadata.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor

from .._support.storage import write_bytes
from ..errors import ConfigError, DataError
from .cache import cached
from .decoding import decode
from .images import MEMORY, ImageSet, LongTailedDataset, Source, image_set

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("fine_label", "label")  # of CIFAR-100, the fine labels


def parquet_files(place: Path) -> list[Path]:
    """The parquet files in a folder and its subfolders, in the order of their names."""
    return sorted(place.rglob("*.parquet"))


def read_parquet(place: Path, files: list[Path], image_size: int | None = None) -> Source:
    """The data set in the parquet files of a folder, as RGB images in memory.

    image_size: scale and crop each image to this many pixels a side; None: the images are squares of one size.
    Raises DataError for files or images that are damaged, and for columns, halves or labels that do not fit.
    """
    return cached(place.name, files, image_size, partial(_read, place, files, image_size))


def check_memory(place: Path, files: list[Path], image_size: int | None) -> None:
    """Raise ConfigError if the decoded images, all as large as the first, are too many to hold."""
    pixels = _first_image_bytes(files[0]) if image_size is None else 3 * image_size**2
    size = pixels * sum(map(_count_rows, files))
    if size > MEMORY:
        raise ConfigError(
            f"the parquet files in {place} hold {size / 1e9:.0f} GB of images, too many to keep in memory; choose a "
            f"smaller --image-size (image_size=), or unpack the images into train/<class>/* and test/<class>/*, from "
            f"where they are read as they are needed"
        )


def write_parquet(data: LongTailedDataset, folder: Path) -> list[Path]:
    """Write the two halves of a data set without loss; returns the two files.

    Raises ConfigError if the images stay on disk, or if the folder already holds parquet files.
    """
    if not (isinstance(data.train, ImageSet) and isinstance(data.test, ImageSet)):
        raise ConfigError(f"{data.name} stays on disk and is too large to be packed; copy its folder instead")
    if found := parquet_files(folder):
        raise ConfigError(f"{folder} already holds {found[0].name}; write into another folder")
    halves = {"train": data.train, "test": data.test}
    written = {folder / f"{half}-00000-of-00001.parquet": images for half, images in halves.items()}
    for file, images in written.items():
        write_bytes(file, _encoded(images, data.class_names))
    return list(written)


# --- reading -----------------------------------------------------------------------------------------------------


def _read(place: Path, files: list[Path], image_size: int | None) -> Source:
    train_files, test_files, val_files = ([f for f in files if f.name.startswith(h)] for h in ("train", "test", "val"))
    halves = train_files, test_files or val_files
    if not all(halves):
        raise DataError(f"{place} needs train-*.parquet and test-*.parquet (or valid-*.parquet), found only {files[0]}")
    for half in halves:
        if len(folders := {str(file.parent) for file in half}) > 1:
            raise DataError(f"{place} has several data sets, in {' and '.join(sorted(folders))}; choose one of them")
    (train, names), (test, _) = (_read_half(half, image_size) for half in halves)
    for split in (train, test):
        if not 0 <= int(split.labels.min()) <= int(split.labels.max()) < len(names):
            raise DataError(
                f"{place} has labels outside of 0 to {len(names) - 1}; the training files name {len(names)} classes"
            )
    return Source(train, test, names, f"parquet files in {place}")


def _read_half(files: list[Path], image_size: int | None) -> tuple[ImageSet, tuple[str, ...]]:
    """The images of several files, and the names of the classes."""
    images, labels, names = [], [], None
    for file in files:
        with _readable(file):
            table = pq.read_table(file)
        image_column, label_column = _columns(file, table.column_names)
        labels += table[label_column].to_pylist()
        names = names or _class_names(table.schema, label_column)
        images += [
            decode(io.BytesIO(row["bytes"]), f"image {i} of {file}", image_size)
            for i, row in enumerate(table[image_column].to_pylist())
        ]
    names = names or tuple(str(c) for c in range(max(labels, default=0) + 1))
    return image_set(images, labels), names


def _first_image_bytes(file: Path) -> int:
    """The decoded size of the first image; 0 without an image."""
    with _readable(file):
        packed = pq.ParquetFile(file)
        image_column, _ = _columns(file, packed.schema_arrow.names)
        rows = [row for batch in packed.iter_batches(1, row_groups=[0], columns=[image_column]) for row in batch[0]][:1]
    images = [decode(io.BytesIO(row["bytes"].as_py()), f"image 0 of {file}", None) for row in rows]
    return sum(3 * image.width * image.height for image in images)


def _count_rows(file: Path) -> int:
    with _readable(file):
        return pq.read_metadata(file).num_rows


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn pyarrow's errors into a DataError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as parquet: is it cut off? Delete it and fetch it again") from error


def _columns(file: Path, columns: list[str]) -> tuple[str, str]:
    image = next((c for c in IMAGE_COLUMNS if c in columns), None)
    label = next((c for c in LABEL_COLUMNS if c in columns), None)
    if not image or not label:
        raise DataError(
            f"{file} has the columns {', '.join(columns)}; needed are 'img' or 'image', and 'label' or 'fine_label'"
        )
    return image, label


def _class_names(schema: pa.Schema, label_column: str) -> tuple[str, ...] | None:
    """The class names in the metadata; None if there are none."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return tuple(features[label_column]["names"])
    except (KeyError, TypeError, ValueError):
        return None


# --- writing -----------------------------------------------------------------------------------------------------


def _encoded(half: ImageSet, class_names: tuple[str, ...]) -> bytes:
    """One half as the bytes of a parquet file."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(class_names), "_type": "ClassLabel"}}
    table = pa.table(
        {"image": [{"bytes": _lossless(image), "path": None} for image in half.images], "label": half.labels.tolist()},
        pa.schema(
            {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()},
            {"huggingface": json.dumps({"info": {"features": features}})},
        ),
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="none", use_dictionary=["label"])  # the images are compressed already
    return buffer.getvalue()


def _lossless(pixels: Tensor) -> bytes:
    """uint8 (channels, side, side) -> a lossless WebP in RGB."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())
    image.save(buffer, "WEBP", lossless=True, quality=100, method=4)
    return buffer.getvalue()
