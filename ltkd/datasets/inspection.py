"""What is known of a file of images before its pixels are used: its content, and how its pixels are stored.

Each file is read once; what was found is kept in the cache folder until its size, a time or its inode differs.
"""

import hashlib
import io
import json
import os
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from .._support.fingerprint import digest
from .._support.storage import cache_folder, write_bytes
from ..errors import DataError, LtkdError
from .decoding import DAMAGE, SIXTEEN_BITS, is_deep, reason, refuse, white_of

FORMAT = 2  # raise it when other things are found in the same file
MANY = 2000  # files, from which on a progress bar is shown
Stamp = tuple[int, ...]  # size, time of change, time of status (the one that `cp -p` and tar cannot set), inode


class Facts(NamedTuple):
    """What is known of a file.

    content: a hash of its bytes. depth: "grey" or "colour" if a channel has more than 8 bits, else "". low, high: its
    values then; of "colour" in steps of 257, since Pillow reads the upper 8 of 16 bits. frames: images in the file.
    fault: why it is no image, "" if it is one.
    """

    content: str
    depth: str = ""
    low: float = 0.0
    high: float = 0.0
    frames: int = 1
    fault: str = ""


_known: dict[str, tuple[Stamp, Facts]] = {}  # of this process, by path
_loaded: set[Path] = set()


def inspect(files: Sequence[str]) -> list[Facts]:
    """The Facts of each file, an image or (by its suffix) a parquet file."""
    if not files:
        return []
    folders = os.path.commonpath({os.path.dirname(os.path.abspath(file)) for file in files})
    stored_at = cache_folder() / "inspected" / f"{digest([FORMAT, folders], 16)}.json"
    _load(stored_at)
    stamps = [_stamp(file) for file in files]
    paths = [os.path.abspath(file) for file in files]
    new = [i for i, path in enumerate(paths) if stamps[i] is None or _known.get(path, (None,))[0] != stamps[i]]
    silent = None if len(new) >= MANY else True  # None: unless it is a terminal
    bar = tqdm(new, desc="reading each image once", unit="file", leave=False, disable=silent)
    found = {i: _facts(paths[i]) for i in bar}
    _known.update({paths[i]: (stamp, facts) for i, facts in found.items() if (stamp := stamps[i])})
    if found:
        _store(stored_at, folders)
    return [found[i] if i in found else _known[path][1] for i, path in enumerate(paths)]


def refuse_faults(names: Sequence[str], facts: Sequence[Facts]) -> None:
    """Raise one DataError about all files that are no images."""
    refuse([(name, each.fault) for name, each in zip(names, facts, strict=True) if each.fault], len(names))


def white_of_all(names: Sequence[str], facts: Sequence[Facts]) -> float | None:
    """The value of white in the images of more than 8 bits a channel; None if there are none.

    Raises DataError if their values have no range, or if they are colour images that use only the lower 8 of their 16
    bits: Pillow reads only the upper 8.
    """
    deep = [each for each in facts if each.depth]
    if not deep:
        return None
    first = names[facts.index(deep[0])]
    try:
        white = white_of(*_range(deep))
    except ValueError as error:
        raise DataError(f"{first} and others: {error}; write them as images of 8 bits") from error
    if any(each.depth == "colour" for each in deep) and white < SIXTEEN_BITS:
        raise DataError(
            f"{first} and others are colour images of 16 bits a channel that use only the lower ones, up to "
            f"{_range(deep)[1]:g}; write them as images of 8 bits"
        )
    return white


def notes_on(names: Sequence[str], facts: Sequence[Facts]) -> tuple[str, ...]:
    """Sentences on how the images are read."""
    several = [name for name, each in zip(names, facts, strict=True) if each.frames > 1]
    deep = [each for each in facts if each.depth]
    notes = list[str]()
    if several:
        notes.append(f"{len(several)} files have several images, first {several[0]}: of each, the first image is taken")
    if deep:
        low, high = _range(deep)
        notes.append(
            f"{len(deep)} images have more than 8 bits a channel, with values from {low:g} to {high:g}: 0 becomes "
            f"black, {white_of(low, high):g} white"
        )
    return tuple(notes)


def _range(deep: Sequence[Facts]) -> tuple[float, float]:
    return float(np.min([each.low for each in deep])), float(np.max([each.high for each in deep]))  # NaN stays NaN


def _stamp(file: str) -> Stamp | None:
    try:
        stat = os.stat(file)
    except OSError:
        return None  # such as a link to nothing: never kept
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _facts(path: str) -> Facts:
    try:
        with open(path, "rb") as file:
            if path.endswith(".parquet"):
                return Facts(hashlib.file_digest(file, "sha256").hexdigest())
            data = file.read()
    except OSError as error:
        return Facts("", fault="a link to a file that is not there" if os.path.islink(path) else str(error.strerror))
    return facts_of(data)


def facts_of(data: bytes) -> Facts:
    """The Facts of an image file, given as its bytes."""
    content = hashlib.sha256(data).hexdigest()
    try:
        return _of_image(data)._replace(content=content)
    except (*DAMAGE, struct.error, EOFError) as error:
        return Facts(content, fault=reason(error))


def _of_image(data: bytes) -> Facts:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata: what matters is an error
        with Image.open(io.BytesIO(data)) as image:
            frames = getattr(image, "n_frames", 1)
            if is_deep(image):
                values = np.asarray(image)
                return Facts("", "grey", float(values.min()), float(values.max()), frames)
            if _stored(image).endswith((";16", ";16B", ";16L", ";16N")):
                return Facts("", "colour", 0.0, 257.0 * int(np.asarray(image.convert("RGB")).max()), frames)
            return Facts("", frames=frames)


def _stored(image: Image.Image) -> str:
    """How Pillow calls the pixels of a file, such as "RGB;16B"."""
    tiles = getattr(image, "tile", ())
    arguments = tiles[0].args if tiles else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _load(path: Path) -> None:
    if path in _loaded or not path.is_file():
        return
    try:
        rows = json.loads(path.read_bytes())
        _known.update({file: (tuple(stamp), Facts(*facts)) for file, (stamp, facts) in rows.items()})
        _loaded.add(path)
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        path.unlink(missing_ok=True)  # a damaged cache is only a slow start


def _store(path: Path, folder: str) -> None:
    rows = {file: known for file, known in _known.items() if file.startswith(folder)}
    try:
        write_bytes(path, json.dumps(rows).encode())
        _loaded.add(path)
    except LtkdError as error:
        warnings.warn(f"what was read of the images is not kept for the next start: {error}", stacklevel=2)
