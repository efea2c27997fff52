"""Images and labels in parquet files, in the layout of the Hugging Face hub: read, and written by `pack-data`.

train-*.parquet and test-*.parquet (or valid-*.parquet) lie in one folder, up to two levels below the named one. A row
is an image: a column `img` or `image` of encoded bytes, plain or as the field `bytes` of a struct, and a column
`fine_label` or `label` of class numbers, whose names stand in the metadata, or of class names.
"""

import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor

from .._support.fingerprint import digest
from .._support.storage import write_bytes
from ..errors import ConfigError, DataError
from .arrays import renumbered
from .cache import cached
from .decoding import decode, decode_all
from .image_files import numbered
from .image_lists import composed
from .images import MEMORY, ImageSet, LongTailedDataset, Source, image_set
from .inspection import facts_of, inspect, notes_on, refuse_faults, white_of_all
from .repeats import Contents, repeats

IMAGE_COLUMNS = ("img", "image")
HALVES = ("train", "test", "val")
DEPTH = 2  # levels of subfolders that are searched
SHARD = re.compile(r"-(\d+)-of-(\d+)\.parquet$")
LABEL_COLUMNS = ("fine_label", "label")  # of CIFAR-100, the fine labels


def parquet_files(place: Path) -> list[Path]:
    """The parquet files train-*, test-* and val* in a folder and its subfolders, in the order of their names."""
    found = (file for depth in range(DEPTH + 1) for file in place.glob("*/" * depth + "*.parquet"))
    return sorted(file for file in found if file.name.startswith(HALVES))


def read_parquet(place: Path, files: list[Path], image_size: int | None = None) -> Source:
    """The data set in the parquet files of a folder, as RGB images in memory.

    image_size: scale and crop each image to this many pixels a side; None: the images are squares of one size.
    Raises DataError for files or images that are damaged, and for columns, halves or labels that do not fit.
    """
    halves = _halves(place, files)
    return cached(place, parquet_version(files), image_size, partial(_read, place, halves, image_size))


def parquet_version(files: list[Path]) -> str:
    """Sixteen hexadecimal digits: a hash of the content of the parquet files that are read."""
    halves = _halves(files[0].parent, files)
    return digest([[facts.content for facts in inspect(list(map(str, half)))] for half in halves], 16)


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


def _halves(place: Path, files: list[Path]) -> tuple[list[Path], list[Path]]:
    """The files to train on and those to test on. Raises DataError unless they are the whole of one data set."""
    train, test, val = ([f for f in files if f.name.startswith(half)] for half in HALVES)
    halves = train, test or val
    if not all(halves):
        raise DataError(f"{place} needs train-*.parquet and test-*.parquet (or valid-*.parquet), found only {files[0]}")
    if len(folders := {str(file.parent) for half in halves for file in half}) > 1:
        raise DataError(f"{place} has several data sets, in {' and '.join(sorted(folders))}; choose one of them")
    for half in halves:
        _check_shards(half)
    return halves


def _check_shards(files: list[Path]) -> None:
    """Raise DataError if the files are numbered, as 2 of 5, and some are missing."""
    found = [(int(match[1]), int(match[2])) for file in files if (match := SHARD.search(file.name))]
    total = max((of for _, of in found), default=0)
    if found and (len(found) != len(files) or {of for _, of in found} != {total}):
        raise DataError(
            f"{files[0]} and {files[-1].name} are parts of different data sets by their numbers; keep one of them"
        )
    if missing := sorted(set(range(total)) - {number for number, _ in found}):
        raise DataError(
            f"{len(missing)} of the {total} parts that {files[0]} belongs to are missing, first part {missing[0]}; "
            f"fetch them"
        )


class _Rows(NamedTuple):
    """One half: each image as its bytes, what it is called in a sentence, and its label; the names of the classes.

    texts: whether there are labels that are texts.
    """

    images: list[bytes]
    called: list[str]
    labels: np.ndarray
    names: tuple[str, ...] | None
    texts: bool


def _read(place: Path, halves: tuple[list[Path], list[Path]], image_size: int | None) -> Source:
    train, test = map(_rows, halves)
    _check_alike(place, [(train.texts, train.names), (test.texts, test.names)])
    names = train.names or numbered([train.labels], place)
    if train.names and test.names:
        test = test._replace(labels=renumbered(test.labels, test.names, names, str(halves[1][0])))
    for half in (train, test):
        if half.labels.max(initial=0) >= len(names):
            raise DataError(
                f"{place} has labels outside of 0 to {len(names) - 1}; the training files name {len(names)} classes"
            )
    called, n = [*train.called, *test.called], len(train.called)
    facts = [facts_of(data) for data in (*train.images, *test.images)]
    refuse_faults(called, facts)
    files = [(io.BytesIO(data), name) for data, name in zip((*train.images, *test.images), called, strict=True)]
    images, keys = decode_all(files, image_size, white_of_all(called, facts)), [each.content for each in facts]
    contents = (
        Contents(keys[:n], train.labels.tolist(), train.called.__getitem__),
        Contents(keys[n:], test.labels.tolist(), test.called.__getitem__),
    )
    return Source(
        image_set(images[:n], train.labels),
        image_set(images[n:], test.labels),
        names,
        f"parquet files in {place}",
        notes=notes_on(called, facts),
        doubts=repeats(*contents, names),
    )


def _rows(files: list[Path]) -> _Rows:
    """The images of several files. Labels that are texts are numbered in the order of the alphabet, others as the first
    file that names its classes does."""
    images, called, parts = list[bytes](), list[str](), []
    for file in files:
        with _readable(file):
            table = pq.read_table(file)
        image_column, label_column = _columns(file, table.column_names)
        labels, texts = _labels(file, table[label_column])
        own_names = _class_names(table.schema, label_column) if texts is None else texts
        parts.append((file, labels, texts, own_names))
        images += _images(file, table[image_column])
        called += [f"image {i} of {file}" for i in range(len(table))]
    _check_alike(files[0].parent, [(texts is not None, own_names) for _, _, texts, own_names in parts])
    if all(texts is not None for _, _, texts, _ in parts):
        names: tuple[str, ...] | None = tuple(sorted({name for _, _, texts, _ in parts for name in texts or ()}))
    else:
        names = next((own_names for *_, own_names in parts if own_names), None)
    numbered = [renumbered(y, own or names, names, str(file)) if names else y for file, y, _, own in parts]
    return _Rows(images, called, np.concatenate(numbered), names, any(texts is not None for _, _, texts, _ in parts))


def _check_alike(place: Path, parts: Sequence[tuple[bool, tuple[str, ...] | None]]) -> None:
    """Raise DataError if the labels of one part are texts, and those of another numbers without names."""
    if any(texts for texts, _ in parts) and any(names is None for _, names in parts):
        raise DataError(f"the parquet files in {place} have labels by number and by name; write all of them in one way")


def _images(file: Path, column: pa.ChunkedArray | pa.Array) -> list[bytes]:
    """The encoded images of a file. Raises DataError for a column of another kind, and for rows without an image."""
    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = pc.struct_field(column, "bytes")
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise DataError(
            f"{file} has images of the type {column.type}; needed are the bytes of image files, such as of PNG, "
            f"plain or as the field `bytes` of a struct"
        )
    _refuse_nulls(file, column, "image")
    return column.to_pylist()


def _refuse_nulls(file: Path, column: pa.ChunkedArray | pa.Array, what: str) -> None:
    if column.null_count:
        first = pc.index(pc.is_null(column), True).as_py()
        raise DataError(f"{column.null_count} {what}s of {file} are null, first {what} {first}; remove these rows")


def _labels(file: Path, column: pa.ChunkedArray) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The labels of a file (N,), and the names of the classes where the labels are texts.

    Raises DataError unless they are texts or whole numbers from 0 on, one an image.
    """
    _refuse_nulls(file, column, "label")
    if pa.types.is_dictionary(column.type):  # as pandas writes a categorical column
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        names, labels = np.unique(np.array([composed(name) for name in column.to_pylist()], str), return_inverse=True)
        return labels, tuple(names.tolist())
    if not pa.types.is_integer(column.type):
        raise DataError(
            f"{file} has labels of the type {column.type}; needed are whole numbers from 0 on, to which "
            f"`table[column].astype(int)` of pandas converts, or the names of the classes as texts"
        )
    if len(column) and (lowest := pc.min(column).as_py()) < 0:
        raise DataError(f"{file} has a label {lowest}; labels run from 0 on; remove images without a class")
    return column.to_numpy().astype(np.int64), None


def _first_image_bytes(file: Path) -> int:
    """The decoded size of the first image; 0 without an image."""
    with _readable(file):
        packed = pq.ParquetFile(file)
        image_column, _ = _columns(file, packed.schema_arrow.names)
        batch = next(packed.iter_batches(1, columns=[image_column]), None)
    if batch is None:
        return 0
    [first] = _images(file, batch.column(0))
    image = decode(io.BytesIO(first), f"image 0 of {file}", None)
    return 3 * image.width * image.height


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
