"""The commands check-data and pack-data."""

import argparse
import warnings
from pathlib import Path
from typing import Any

from .. import datasets
from .._support.terminal import say
from ..config import RunConfig
from ..datasets import ImageFiles, LongTailedDataset, registry, write_parquet
from ..errors import ConfigError
from ..groups import ClassGroups
from ..metrics import thirds
from ..training.setup import load_dataset
from . import options

DATA_SETTINGS = ("dataset", "imbalance_factor", "profile", "image_size", "subset_seed", "seed")


def check_data(given: argparse.Namespace) -> None:
    """Load a data set, decode every image, and print what is in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the doubts are printed below
        data = load_dataset(RunConfig.make(**options.settings(given)).data, given.data)
    for images in (data.train, data.test):
        if isinstance(images, ImageFiles):
            images.check()
    counts = data.class_counts
    say(f"{data.name}: found as {data.source}")
    say(
        f"{len(data.train)} training and {len(data.test)} test images, ({data.in_channels}, {data.image_size}, "
        f"{data.image_size}), {data.num_classes} classes"
    )
    if data.streamed:
        say("the images stay on disk and are decoded when they are needed")
    say(f"training images a class: {int(counts.max())} to {int(counts.min())}")
    for title, groups in (("by rank", thirds(counts)), ("by shots", ClassGroups.by_shots(counts))):
        sizes = zip(groups.names, groups.sizes, strict=True)
        say(f"{title}: " + ", ".join(f"{name} {size}" for name, size in sizes) + " classes")
    for kind, sentences in (("note", data.notes), ("warning", data.doubts or ())):
        say(*(f"{kind}: {sentence}" for sentence in sentences))


def pack_data(given: argparse.Namespace) -> None:
    """Write a data set as two parquet files, without loss, for example for a machine without a network."""
    config = RunConfig.make(**options.settings(given))
    data, folder = load_dataset(config.data, given.data), Path(given.out)
    if folder.name in registry.FOLDERS and not _is_whole(data, config, given.data):
        raise ConfigError(
            f"{folder} has the name of a whole data set, but this is a part or another size of {config.dataset}; "
            f"choose another name for --out, or pack the whole with --profile as-is"
        )
    files = write_parquet(data, folder)
    say(
        f"{folder}: {len(data.train)} training and {len(data.test)} test images of {data.name}, "
        f"{sum(file.stat().st_size for file in files) / 2**20:.1f} MiB"
    )


def _is_whole(data: LongTailedDataset, config: RunConfig, data_root: str | None) -> bool:
    return config.image_size is None and len(data.train) == len(datasets.load(config.dataset, root=data_root).train)


# --- options ---


def add_check_data(commands: Any) -> None:
    parser = options.add_command(commands, "check-data", check_data, "")
    options.add_settings(parser, repeated=False, only=DATA_SETTINGS)
    parser.add_argument(
        "--data", metavar="FOLDER", help="folder of the data sets (default: LTKD_DATA, else data/downloads)"
    )


def add_pack_data(commands: Any) -> None:
    parser = options.add_command(
        commands,
        "pack-data",
        pack_data,
        options.examples("""
          python -m ltkd pack-data --dataset cifar100 --profile as-is --out elsewhere/cifar100
          Copy the folder into the data folder of the other machine: --dataset cifar100 finds it there.

          python -m ltkd pack-data --dataset cifar100 --imbalance-factor 100 --seed 0 --out elsewhere/cifar100-100
          A part is a data set of its own: --dataset elsewhere/cifar100-100."""),
    )
    options.add_settings(parser, repeated=False, only=DATA_SETTINGS)
    parser.add_argument(
        "--data", metavar="FOLDER", help="folder of the data sets (default: LTKD_DATA, else data/downloads)"
    )
    parser.add_argument(
        "--out", metavar="FOLDER", required=True, help="the folder for train-*.parquet and test-*.parquet"
    )


ADD = add_check_data, add_pack_data
