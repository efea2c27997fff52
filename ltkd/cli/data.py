"""check-data and pack-data."""

from pathlib import Path

from .. import datasets
from ..config import RunConfig
from ..datasets import registry, write_parquet
from ..errors import ConfigError
from ..groups import ClassGroups
from ..metrics import thirds
from ..training.fit import load_dataset
from . import options

DATA_SETTINGS = ("dataset", "imbalance_factor", "profile", "image_size", "subset_seed", "seed")


def check_data(given):
    """Load a data set and say what is in it."""
    data = load_dataset(RunConfig.make(**options.settings(given)), given.data)
    counts = data.class_counts
    print(f"{data.name}: found as {data.source}")
    print(
        f"{len(data.train)} training and {len(data.test)} test images, ({data.in_channels}, {data.image_size}, "
        f"{data.image_size}), {data.num_classes} classes"
    )
    if data.streamed:
        print("the images stay on disk and are decoded as they are needed")
    print(f"training images a class: {int(counts.max())} to {int(counts.min())}")
    for title, groups in (("by rank", thirds(counts)), ("by shots", ClassGroups.by_shots(counts))):
        sizes = zip(groups.names, groups.sizes, strict=True)
        print(f"{title}: " + ", ".join(f"{name} {size}" for name, size in sizes) + " classes")


def pack_data(given):
    """Write a data set as two parquet files, without loss, such as for a machine without a network."""
    config = RunConfig.make(**options.settings(given))
    data, folder = load_dataset(config, given.data), Path(given.out)
    if folder.name in registry.FOLDERS and not _is_whole(data, config, given.data):
        raise ConfigError(
            f"{folder} is where a whole data set is looked for by its name, and this is a part or another size of "
            f"{config.dataset}; choose another name for --out, or pack the whole with --profile as-is"
        )
    files = write_parquet(data, folder)
    print(
        f"{folder}: {len(data.train)} training and {len(data.test)} test images of {data.name}, "
        f"{sum(file.stat().st_size for file in files) / 2**20:.1f} MiB"
    )


def _is_whole(data, config, data_root):
    return config.image_size is None and len(data.train) == len(datasets.load(config.dataset, root=data_root).train)


# --- options ---


def add_check_data(commands):
    parser = options.add_command(commands, "check-data", check_data, "")
    options.add_settings(parser, repeated=False, only=DATA_SETTINGS)
    parser.add_argument("--data", metavar="FOLDER", help="where data lie (default: LTKD_DATA, else data/downloads)")


def add_pack_data(commands):
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
    parser.add_argument("--data", metavar="FOLDER", help="where data lie (default: LTKD_DATA, else data/downloads)")
    parser.add_argument(
        "--out", metavar="FOLDER", required=True, help="the folder for train-*.parquet and test-*.parquet"
    )


ADD = add_check_data, add_pack_data
