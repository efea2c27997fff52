"""Images and labels in the forms that callers have: arrays, tensors, PIL images, one-hot rows, names."""

import re
from collections.abc import Iterable, Sequence
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Subset

from ..errors import ConfigError, DataError, LtkdError
from .decoding import eight_bits, is_deep, rgb, upright, white_of
from .image_files import numbered

CHANNELS = (1, 3)
WHOLE = re.compile(r"\s*[+-]?\d+(\.0*)?\s*")
LABELS = "labels must be whole numbers from 0 on, one-hot rows (N, C), or names, one an image"


def items(dataset: Any) -> tuple[list[Any], list[Any]]:
    """The images and the labels of a torch dataset. Raises ConfigError unless its items are pairs."""
    cannot = f"a {type(dataset).__name__} cannot be read as a data set"
    needed = "needed are a length, and items `(image, label)` by number"
    try:
        read = [dataset[i] for i in range(len(dataset))]
    except LtkdError:
        raise
    except Exception as error:  # of the caller's own code, so of any kind
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{cannot} ({why}); {needed}") from error
    if others := [item for item in read if not isinstance(item, tuple | list) or len(item) < 2]:
        raise ConfigError(f"{cannot}: an item is a {_kind(others[0])}; {needed}")
    return [item[0] for item in read], [item[1] for item in read]


def _kind(item: Any) -> str:
    """What an item is, for an error message."""
    if isinstance(item, dict):
        return f"dict of {', '.join(map(repr, item))}"
    return f"{type(item).__name__} of {len(item)}" if isinstance(item, tuple | list) else type(item).__name__


def pictures(halves: Sequence[Any]) -> tuple[list[list[Image.Image]], tuple[str, ...]]:
    """The images of each half as 8-bit PIL images, all of them grey or all in RGB, and a note on what was scaled.

    Raises ConfigError for objects that are not images, values without a range, and halves with different whites.
    """
    read = [[_array(image) for image in _listed(half)] for half in halves]
    deep = [[image for image in half if image.dtype not in (np.uint8, np.bool_)] for half in read]
    ranges = [_range(some or images) for some, images in zip(deep, read, strict=True) if images]
    if len({each.white for each in ranges}) > 1:
        shown = [f"{each.low:g} to {each.high:g} (white: {each.white:g})" for each in ranges]
        raise ConfigError(
            f"the training images have values from {shown[0]}, the test images from {shown[1]}; scale both alike"
        )
    white, notes = ranges[0].white if ranges else 1.0, tuple[str, ...]()
    if any(deep):
        low, high = min(each.low for each in ranges), max(each.high for each in ranges)
        notes = (f"pixel values from {low:g} to {high:g}: 0 became black, {white:g} white",)
    colour = any(image.ndim == 3 for half in read for image in half)
    return [[_picture(image, white, "RGB" if colour else "L") for image in half] for half in read], notes


def class_numbers(halves: Sequence[Any], names: Sequence[str] | None) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """The labels of each half, training first, as numbers (N,), and the names of the classes.

    names: by label; None: from the labels. Raises ConfigError for labels of another kind.
    """
    rows = [_plain(labels) for labels in halves]
    if all(labels.dtype.kind == "U" for labels in rows):
        known = tuple(names) if names is not None else _in_order(rows[0].tolist())
        label_of = {name: label for label, name in enumerate(known)}
        if strangers := sorted({name for labels in rows for name in labels.tolist()} - set(label_of)):
            raise ConfigError(f"no training image is of class {strangers[0]!r}, or class_names= does not name it")
        return [np.array([label_of[name] for name in labels.tolist()], dtype=np.int64) for labels in rows], known
    if any(labels.dtype.kind == "U" for labels in rows):
        raise ConfigError("the labels of one half are names, those of the other numbers; write both in one way")
    if names is None:
        names = numbered(rows, "the arrays")
    return rows, tuple(names)


def renumbered(labels: np.ndarray, own_names: Sequence[str], names: Sequence[str], found: str) -> np.ndarray:
    """Labels (N,) that are places in `own_names`, turned into places in `names`, the names of the training images.

    found: the place of the labels, for the message. Raises DataError for a label without a name, and for an image of a
    class that is not in `names`.

    >>> renumbered(np.array([0, 1, 1]), ["cat", "ant"], ["ant", "bee", "cat"], "the test half").tolist()
    [2, 0, 0]
    """
    if tuple(own_names) == tuple(names) or not len(labels):
        return labels
    if labels.min() < 0 or labels.max() >= len(own_names):
        raise DataError(f"{found} has names for the labels 0 to {len(own_names) - 1}, but other labels too")
    if strangers := sorted({own_names[label] for label in np.unique(labels)} - set(names)):
        raise DataError(
            f"{found} has images of a class {strangers[0]!r}, which is not among the class names of the training "
            f"images; remove them, or name the class alike in both"
        )
    label_of = {name: label for label, name in enumerate(names)}
    return np.array([label_of.get(name, -1) for name in own_names])[labels]


def renumbered_test(train: Any, test: Any, labels: Any) -> Any:
    """The labels of the torch dataset `test`, in the order of `train.classes` where both datasets name their classes.

    Labels that are names themselves, and those of datasets without names, stay as they are.
    """
    names, own_names = (_classes(dataset) for dataset in (train, test))
    if names is None or own_names is None or (numbers := _plain(labels)).dtype.kind == "U":
        return labels
    return renumbered(numbers, own_names, names, "the test half")


def _classes(dataset: Any) -> Sequence[str] | None:
    """The class names of a torch dataset, or of the dataset behind a Subset, by label; None if it has none."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    return names if isinstance(names, list | tuple) else None


class _Range(NamedTuple):
    low: float
    high: float
    white: float


def _range(images: Sequence[np.ndarray]) -> _Range:
    """The values of images of one half. The white of 8 bits, and of black and white, needs no look at the values."""
    kinds = {image.dtype for image in images}
    if kinds <= {np.dtype(np.uint8), np.dtype(bool)}:
        white = 255.0 if np.dtype(np.uint8) in kinds else 1.0
        return _Range(0.0, white, white)
    low, high = float(np.min([x.min() for x in images])), float(np.max([x.max() for x in images]))
    try:
        return _Range(low, high, white_of(low, high))
    except ValueError as error:
        raise ConfigError(f"{error}; give the images before they are normalised") from error


def _listed(images: Any) -> Iterable[Any]:
    if not hasattr(images, "__len__") or isinstance(images, str | dict):
        raise ConfigError(f"images must be an array, a tensor or a list, got {type(images).__name__}")
    return images


def _array(image: Any) -> np.ndarray:
    """One image as (height, width) or (height, width, 3), numbers of any range."""
    if isinstance(image, Image.Image):
        image = upright(image)
        if not is_deep(image):
            image = image.convert("L") if image.mode in ("1", "L", "LA") else rgb(image)
    array = _numpy(image)
    if array.dtype.kind not in "buif":
        raise ConfigError(f"an image is of {array.dtype}, not of numbers; give arrays, tensors or PIL images")
    first, last = (array.ndim == 3 and array.shape[axis] in CHANNELS for axis in (0, 2))
    if array.ndim == 3 and first != last:
        array = np.moveaxis(array, 0, 2) if first else array
        array = array[..., 0] if array.shape[2] == 1 else array
    elif array.ndim != 2:
        raise ConfigError(
            f"an image has the shape {array.shape}; needed are (side, side), (channels, side, side) or (side, side, "
            f"channels), with 1 or 3 channels"
        )
    if not array.size:
        raise ConfigError(f"an image has the shape {array.shape}, so not a single pixel")
    return array.view(np.uint8) if array.dtype == np.int8 and array.min() >= 0 else array


def _picture(image: np.ndarray, white: float, mode: str) -> Image.Image:
    scaled = image if image.dtype == np.uint8 else eight_bits(image, 1.0 if image.dtype == np.bool_ else white)
    return Image.fromarray(np.ascontiguousarray(scaled)).convert(mode)


def _plain(labels: Any) -> np.ndarray:
    """Labels as whole numbers or names (N,)."""
    array = _gathered(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.dtype.kind in "buif" and np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all():
        return array.argmax(1)
    if array.ndim != 1:
        raise ConfigError(f"{LABELS}; got the shape {array.shape}, whose rows are not one-hot")
    if array.dtype.kind in "OSU":
        array = _of_objects(array.tolist())
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind == "f":
        _refuse_missing(int(np.isnan(array).sum()))
        odd = array[~((array == np.rint(array)) & (np.abs(array) < 2**53))]
    else:
        odd = array[:0] if array.dtype.kind in "bui" else array
    if len(odd):
        raise ConfigError(f"{LABELS}; got {array.dtype}, such as {odd[0]}")
    return array.astype(np.int64)


def _gathered(labels: Any) -> np.ndarray:
    """Labels as one array. Each label of a list keeps its own type."""
    if np.ma.isMaskedArray(labels):
        mask = np.ma.getmaskarray(labels)
        _refuse_missing(int(mask.reshape(len(mask), -1).any(1).sum()) if mask.ndim else 0)
    if not isinstance(labels, list | tuple):
        return _numpy(labels)
    rows = [np.asarray(None) if label is np.ma.masked else _numpy(label) for label in labels]
    if not any(row.ndim for row in rows):
        return np.array([row.item() for row in rows], dtype=object)
    try:
        return np.asarray(rows)
    except ValueError as error:  # rows of different lengths
        raise ConfigError(f"{LABELS}; these have different lengths") from error


def _of_objects(values: list[Any]) -> np.ndarray:
    """Single labels as numbers if all are numbers, else as names."""
    try:
        values = [value.decode() if isinstance(value, bytes) else value for value in values]
    except UnicodeDecodeError as error:
        raise ConfigError(f"the label {error.object!r} is not in UTF-8; decode the labels to text first") from error
    _refuse_missing(sum(_is_missing(value) for value in values))
    return np.array(values if all(isinstance(value, Number) for value in values) else [str(v) for v in values])


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)  # NaN; pandas' own


def _refuse_missing(images: int) -> None:
    if images:
        raise ConfigError(f"{images} images have no label; remove them")


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names in alphabetical order, or by their number if all are whole numbers such as "10" or "10.0"."""
    known = sorted(set(names))
    if all(WHOLE.fullmatch(name) for name in known):
        known.sort(key=lambda name: int(name.partition(".")[0]))
    return tuple(known)


def _numpy(value: Any) -> np.ndarray:
    if torch.is_tensor(value):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.asarray(value)
