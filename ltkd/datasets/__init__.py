"""Long-tailed data sets by name or from a folder, their augmentations, and the profiles of a long tail."""

from .._support.storage import cache_folder
from .augmentation import AUGMENTATIONS, NUMBERED, STREAMED, Views, check_augmentation, views
from .image_files import ImageFiles
from .image_folders import version
from .images import ImageSet, LongTailedDataset, checked
from .longtail import AS_IS, PROFILES, class_counts, longtail_indices, profile_names
from .parquet import write_parquet
from .registry import SOURCES, check_name, load

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
    "checked",
    "class_counts",
    "load",
    "longtail_indices",
    "profile_names",
    "version",
    "views",
    "write_parquet",
]
