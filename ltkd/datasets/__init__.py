"""Long-tailed data sets by name. A new source is one row of SOURCES (and of LAYOUTS if it lies on disk)."""

from functools import partial
from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError, unknown
from . import sources
from .images import ImageSet, LongTailedDataset
from .longtail import AS_IS, PROFILES, class_counts, longtail_indices, profile_names
from .views import AUGMENTATIONS, Views, views

__all__ = [
    "AS_IS",
    "AUGMENTATIONS",
    "PROFILES",
    "SOURCES",
    "ImageSet",
    "LongTailedDataset",
    "Views",
    "check_name",
    "class_counts",
    "load",
    "longtail_indices",
    "profile_names",
    "version",
    "views",
]

SOURCES = {"digits": sources.digits, **{name: partial(sources.find, name) for name in sources.LAYOUTS}}


def load(name, *, imbalance_factor=1, profile="exp", root=None, image_size=None, seed=0):
    """A long-tailed data set.

    name: a key of SOURCES, or the path of a folder with train/<class>/* and test/<class>/*.
    imbalance_factor: images of the largest class over images of the smallest, at least 1.
    profile: 'exp', 'exp-eq15', 'step', 'pareto', 'as-is' (every image of the source) or one count a class.
    root: where data are looked for (else LTKD_DATA, else data/downloads). image_size: resize to this many pixels a
    side. seed: which images of a class are kept; the subset for a larger factor lies inside that for a smaller one.

    Raises ConfigError for a bad parameter, DataError where the images are missing, damaged or too few.
    """
    if not 1 <= imbalance_factor < np.inf:
        raise ConfigError(f"imbalance_factor = {imbalance_factor}: must be a finite number of at least 1")
    source = _source(name, root, image_size)
    num_classes = len(source.class_names)
    available = source.train.counts(num_classes).numpy()
    for split, counts in (("training", available), ("test", source.test.counts(num_classes).numpy())):
        if (counts == 0).any():
            missing = source.class_names[int(np.argmin(counts))]
            raise DataError(f"class {missing!r} has no {split} images in {source.found}; add some or remove the class")
    counts = class_counts(profile, imbalance_factor, available)
    kept = longtail_indices(source.train.labels, counts, seed)
    return LongTailedDataset(str(name), source.train.subset(kept), source.test, source.class_names, source.found)


def version(folder):
    """A short fingerprint of a folder's files (names and sizes), by which a run notices that they changed."""
    return sources.fingerprint(folder, with_times=False)


def check_name(name):
    """Raise unless `name` is a key of SOURCES or the path of a folder."""
    if name not in SOURCES and not (name and Path(name).is_dir()):
        error = unknown("data set", name, SOURCES)
        raise ConfigError(f"{error}, or the path of a folder with train/<class>/* and test/<class>/*")


def _source(name, root, image_size):
    check_name(name)
    if name in SOURCES:
        return SOURCES[name](root=root, image_size=image_size)
    return sources.read_folder(name, image_size=image_size)
