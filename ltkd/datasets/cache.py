"""A cache of decoded images on disk, which is renewed when an image file changes."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from .._support.fingerprint import digest
from .._support.storage import cache_folder, write_bytes
from ..errors import LtkdError
from .images import ImageSet, Source

SPLITS = ("train", "test")
TEXTS = ("class_names", "notes", "doubts")
FORMAT = 3  # raise it when the same files come to other pixels, labels or names, or are stored in another way


def cached(place: Path, version: str, image_size: int | None, read: Callable[[], Source]) -> Source:
    """`read()`, or its result of an earlier call on the same images.

    place: the folder of the images; its name begins that of the stored file. version: a hash of all that `read` depends
    on. image_size: what `read` scales to. A cache that cannot be written is a warning.
    """
    state = digest([FORMAT, os.path.abspath(place), version], 16)
    stored_at = cache_folder() / f"{place.name}-{image_size}-{state}.safetensors"
    if source := _restore(stored_at):
        return source
    source = read()
    _store(stored_at, source)
    return source


def _restore(path: Path) -> Source | None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as stored:
            train, test = (ImageSet(stored.get_tensor(f"{s}.images"), stored.get_tensor(f"{s}.labels")) for s in SPLITS)
            about = stored.metadata()
            names, notes, doubts = (tuple(json.loads(about[part])) for part in TEXTS)
            return Source(train, test, names, about["found"], notes=notes, doubts=doubts)
    except (SafetensorError, OSError, KeyError, ValueError):
        path.unlink(missing_ok=True)  # a damaged cache is only a slow start
        return None


def _store(path: Path, source: Source) -> None:
    from safetensors.torch import save

    tensors = {f"{s}.{part}": getattr(getattr(source, s), part) for s in SPLITS for part in ("images", "labels")}
    about = {part: json.dumps(getattr(source, part)) for part in TEXTS}
    try:
        write_bytes(path, save(tensors, about | {"found": source.found}))
    except LtkdError as error:
        warnings.warn(f"decoded images are not kept for the next start: {error}", stacklevel=2)
