"""Train a teacher and its students and record what they say, as `ltkd.explore.recorded` reads it.

  python data/recorded/make_recording.py cifar100-lt --jobs 2                  about 40 minutes on two cores
  python data/recorded/make_recording.py cifar100-lt --recipe cifar-crd        the papers' networks, on a GPU

Runs that the folder of runs holds already are not trained again. A fresh recording replaces the one of that name.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ltkd import RunConfig, runs
from ltkd._support.provenance import commit
from ltkd._support.storage import write_bytes
from ltkd.datasets.normalization import Normalizer
from ltkd.explore.recorded import IMAGES, INDEX
from ltkd.reproduce.sweep import sweep
from ltkd.runs.archive import portable
from ltkd.training.fit import load_dataset

HERE = Path(__file__).resolve().parent
STUDENTS = ("ce", "kd", "bkd", "ltkd")
WHOLE = ("teacher",)  # networks of which all training images are recorded; of the others the first ones


def main():
    given = arguments()
    configs = wanted(given)
    where = {"runs": given.runs, "data_root": given.data, "progress": False, "weights": True}
    finished = sweep(configs.values(), jobs=given.jobs, **where)  # which raises if one failed: nothing is recorded
    networks = dict(zip(configs, finished, strict=True))
    record(given, networks, load_dataset(configs["ltkd"], given.data))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the recording")
    parser.add_argument("--recipe", default="laptop", help="default: laptop")
    parser.add_argument("--teacher", help="network that teaches (default: the recipe's)")
    parser.add_argument("--student", help="network that is trained (default: the recipe's)")
    parser.add_argument("--epochs", type=int, help="default: the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-images", type=int, default=2048, help="recorded of networks but the teacher")
    parser.add_argument("--test-images", type=int, default=30, help="recorded of each class")
    parser.add_argument("--runs", help="folder of the runs (default: LTKD_RUNS, else runs)")
    parser.add_argument("--data", help="where data lie (default: LTKD_DATA, else data/downloads)")
    parser.add_argument("--jobs", type=int, default=1)
    return parser.parse_args()


def wanted(given):
    """The config of each network to be recorded."""
    chosen = {name: getattr(given, name) for name in ("teacher", "student", "epochs", "seed")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    students = {method: RunConfig.make(given.recipe, method=method, **chosen) for method in STUDENTS}
    teacher = students["ltkd"].for_teacher()
    return {"teacher": teacher, "balanced teacher": balanced(teacher, given.data), **students}


def balanced(teacher, data_root):
    """The same teacher of as many images, spread evenly over the classes."""
    counts = load_dataset(teacher, data_root).class_counts
    alike = (round(float(counts.double().mean())),) * len(counts)
    return replace(teacher, imbalance_factor=1.0, profile=alike)


def record(given, networks, data):
    """Write the recording anew, under a temporary name until it is whole."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(given.seed))
    kept = some_of_each_class(data.test.labels, given.test_images, given.seed)
    folder = HERE / f".{given.name}"
    shutil.rmtree(folder, ignore_errors=True)
    for name, run in networks.items():
        shown = order if name in WHOLE else order[: given.train_images]
        write_run(folder / run.folder.name, run, data.train.images[shown], kept)
    arrays = {
        "class_counts": data.class_counts.numpy(),
        "train_labels": data.train.labels[order].numpy(),
        "test_labels": data.test.labels[kept].numpy(),
        "train_indices": order.numpy().astype(np.int32),
        "test_indices": kept.numpy().astype(np.int32),
    }
    np.savez_compressed(folder / IMAGES, **arrays)
    index = {
        "title": title(networks["ltkd"]),
        "networks": {name: run.folder.name for name, run in networks.items()},
        "class_names": list(data.class_names),
        "commit": commit(),
        "seconds": sum(run.result["seconds"] for run in networks.values()),
    }
    write_bytes(folder / INDEX, (json.dumps(index, indent=1) + "\n").encode())
    final = HERE / given.name
    shutil.rmtree(final, ignore_errors=True)
    folder.rename(final)
    print(f"{final}: {sum(f.stat().st_size for f in final.rglob('*') if f.is_file()) / 2**20:.1f} MiB")


def some_of_each_class(labels, n, seed):
    """Indices of n images of each class, in random order."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed + 1))
    shuffled = labels[order]
    rank = torch.empty_like(order)
    for c in shuffled.unique():
        members = (shuffled == c).nonzero().squeeze(1)
        rank[members] = torch.arange(len(members))
    return order[rank < n]


def write_run(folder, run, train_images, kept):
    """The run without its weights, and with logits of the images that are recorded, in float16."""
    folder.mkdir(parents=True)
    config, result = run.config.to_dict(), portable(run.result)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    write_history(folder, run.history)
    network, normalize = run.model(), Normalizer(**run.result["normalization"])
    train = runs.predict(network, (normalize(batch) for batch in train_images.split(500)))
    arrays = {"logits": run.logits[kept].astype(np.float16), "labels": run.labels[kept]}
    arrays |= {"class_counts": run.class_counts, "train_logits": train.astype(np.float16)}
    np.savez_compressed(folder / "logits.npz", **arrays)


def write_history(folder, history):
    """The history, with group masses in float32 and compressed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for name in history.columns:
        values = history[name].tolist()
        masses = name.endswith("_mass")
        kind = pa.list_(pa.list_(pa.float32())) if masses else None
        columns[name] = pa.array([[list(map(float, row)) for row in v] for v in values] if masses else values, kind)
    pq.write_table(pa.table(columns), folder / "history.parquet", compression="zstd")


def title(run):
    """What the recording is, in one line."""
    config, shape = run.config, run.result["shape"]
    side = shape["image_size"]
    return (
        f"{config.dataset}, imbalance factor {config.imbalance_factor:g}, {side} x {side} pixels: {config.teacher} and "
        f"{config.student}, {config.epochs} epochs on a {run.result['hardware']['device']}"
    )


if __name__ == "__main__":
    main()
