"""check-data and pack-data."""

from pathlib import Path

from ..config import RunConfig
from ..datasets import packed
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
    """Write the long-tailed subset and the test set of a data set as one small file, for a machine without network."""
    config = RunConfig.make(**options.settings(given))
    data = load_dataset(config, given.data)
    file = packed.pack(data, Path(given.out), config)
    print(
        f"{file}: {len(data.train)} training and {len(data.test)} test images of {data.name}, "
        f"{file.stat().st_size / 2**20:.1f} MiB"
    )


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
          python -m ltkd pack-data --dataset cifar100 --imbalance-factor 100 --seed 0 --out elsewhere/
          Put the file into the data folder of the other machine; every command finds it there."""),
    )
    options.add_settings(parser, repeated=False, only=DATA_SETTINGS)
    parser.add_argument("--data", metavar="FOLDER", help="where data lie (default: LTKD_DATA, else data/downloads)")
    parser.add_argument("--out", metavar="FOLDER", default=".", help="where the file is written (default: here)")


ADD = add_check_data, add_pack_data
