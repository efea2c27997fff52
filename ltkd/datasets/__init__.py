"""Long-tailed data sets by name. A new one is one row: of LAYOUTS, of PUBLISHED if lists define it, else of SOURCES."""

from collections.abc import Callable
from functools import partial
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._support.storage import cache_folder
from ..errors import ConfigError, DataError, unknown
from . import large, packed, sources
from .augmentation import AUGMENTATIONS, NUMBERED, STREAMED, Views, check_augmentation, views
from .image_files import ImageFiles
from .image_folders import read_folder, version
from .images import ImageSet, LongTailedDataset, Size
from .longtail import AS_IS, PROFILES, class_counts, longtail_indices, profile_names

__all__ = [
    "AS_IS",
    "AUGMENTATIONS",
    "NUMBERED",
    "PROFILES",
    "SOURCES",
    "STREAMED",
    "ImageFiles",
    "ImageSet",
    "LongTailedDataset",
    "Views",
    "cache_folder",
    "check_augmentation",
    "check_name",
    "class_counts",
    "load",
    "longtail_indices",
    "profile_names",
    "version",
    "views",
]


class Known(NamedTuple):
    """A data set that has a name. read(root=, image_size=) -> Source; recipe, size: as in sources.Layout."""

    read: Callable
    recipe: str
    size: Size | None = None


SOURCES = {
    "digits": Known(sources.digits, "digits", Size(10, 124, 500, channels=1, side=8)),
    **{name: Known(partial(sources.find, name), row.recipe, row.size) for name, row in sources.LAYOUTS.items()},
    "imagenet-exp-lt": Known(large.imagenet, "imagenet-crd", Size(1000, 1300, 50_000, side=large.IMAGE_SIZE)),
    **{name: Known(partial(large.published, name), row.recipe, row.size) for name, row in large.PUBLISHED.items()},
}


def load(name, *, imbalance_factor=1, profile=None, root=None, image_size=None, seed=0):
    """A long-tailed data set.

    name: a key of SOURCES, or the path of a folder with train/<class>/* and test/<class>/*, or with lists train.txt
    and test.txt of lines `path class`.
    imbalance_factor: images of the largest class over images of the smallest, at least 1.
    profile: 'exp', 'exp-eq15', 'step', 'pareto', 'as-is' (every image of the source) or one count a class; by default
    'exp' where an imbalance factor is given, else 'as-is'.
    root: where data are looked for (else LTKD_DATA, else data/downloads). image_size: resize to this many pixels a
    side. seed: which images of a class are kept; the subset for a larger factor lies inside that for a smaller one.

    Raises ConfigError for a bad parameter, DataError where the images are missing, damaged or too few.
    """
    if not (isinstance(imbalance_factor, Real) and 1 <= imbalance_factor < np.inf):
        raise ConfigError(f"imbalance_factor = {imbalance_factor!r}: must be a finite number of at least 1")
    if profile is None:
        profile = AS_IS if imbalance_factor == 1 else "exp"
    request = (profile, imbalance_factor, seed, image_size)
    subset, others = packed.find(str(name), root, *request)
    if subset:
        return LongTailedDataset(str(name), *subset[:-1])
    source = _source(name, root, image_size) if not others else _whole(name, root, others, request)
    num_classes = len(source.class_names)
    available = source.train.counts(num_classes).numpy()
    for split, counts in (("training", available), ("test", source.test.counts(num_classes).numpy())):
        if (counts == 0).any():
            missing = source.class_names[int(np.argmin(counts))]
            raise DataError(f"class {missing!r} has no {split} images in {source.found}; add some or remove the class")
    counts = class_counts(profile, imbalance_factor, available, capped=source.uneven)
    kept = longtail_indices(source.train.labels, counts, seed)
    return LongTailedDataset(str(name), source.train.subset(kept), source.test, source.class_names, source.found)


def _whole(name, root, others, request):
    """The whole data set, where other subsets of it are packed: found on disk, never downloaded in their stead."""
    if name not in sources.LAYOUTS:
        return _source(name, root, request[-1])
    try:
        return sources.find(name, root=root, image_size=request[-1], download=False)
    except sources.Missing as error:
        raise packed.refusal(name, others, *request) from error


def check_name(name):
    """Raise unless `name` is a key of SOURCES or the path of a folder."""
    if name not in SOURCES and not (name and Path(name).is_dir()):
        error = unknown("data set", name, SOURCES)
        raise ConfigError(f"{error}, or the path of a folder with train/<class>/* and test/<class>/*, or with lists")


def _source(name, root, image_size):
    check_name(name)
    if name in SOURCES:
        return SOURCES[name].read(root=root, image_size=image_size)
    return read_folder(name, image_size=image_size)
