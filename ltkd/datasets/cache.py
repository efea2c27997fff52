"""A cache of decoded images on disk, which is renewed when an image file changes."""

import json
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from .._support.fingerprint import digest
from .._support.storage import cache_folder, write_bytes
from ..errors import LtkdError
from .images import ImageSet, Source

SPLITS = ("train", "test")
FORMAT = 1  # raise it when the same files come to other pixels, labels or names, or are stored in another way


def cached(
    name: str, files: Iterable[str | os.PathLike[str]], image_size: int | None, read: Callable[[], Source]
) -> Source:
    """`read()`, or its result of an earlier call on the same, unchanged files.

    name: begins the name of the stored file. files: all files that `read` depends on. image_size: what `read` scales
    to. A cache that cannot be written is a warning.
    """
    stored_at = cache_folder() / f"{name}-{image_size}-{_state(files)}.safetensors"
    if source := _restore(stored_at):
        return source
    source = read()
    _store(stored_at, source)
    return source


def _state(files: Iterable[str | os.PathLike[str]]) -> str:
    stats = [(os.path.abspath(file), os.stat(file)) for file in files]
    return digest([FORMAT, *([path, s.st_size, s.st_mtime_ns] for path, s in stats)], 16)


def _restore(path: Path) -> Source | None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as stored:
            train, test = (ImageSet(stored.get_tensor(f"{s}.images"), stored.get_tensor(f"{s}.labels")) for s in SPLITS)
            about = stored.metadata()
            return Source(train, test, tuple(json.loads(about["class_names"])), about["found"])
    except (SafetensorError, OSError, KeyError, ValueError):
        path.unlink(missing_ok=True)  # a damaged cache is only a slow start
        return None


def _store(path: Path, source: Source) -> None:
    from safetensors.torch import save

    tensors = {f"{s}.{part}": getattr(getattr(source, s), part) for s in SPLITS for part in ("images", "labels")}
    try:
        write_bytes(path, save(tensors, {"class_names": json.dumps(source.class_names), "found": source.found}))
    except LtkdError as error:
        warnings.warn(f"decoded images are not kept for the next start: {error}", stacklevel=2)
