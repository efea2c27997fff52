"""The run store: one folder a run, every file written whole or not at all.

- config.json: what determines the run
- checkpoint.pt: while unfinished, the state after the last epoch stored
- student.safetensors: the trained weights
- logits.npz: test logits and labels of the last epoch, training images of each class
- history.parquet: one row an epoch
- result.json: written last, so that its presence means the run is finished
- .claim: while unfinished, the lock of the process that trains it
"""

import copy
import io
import json
import math
import os
import zipfile
import zlib
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from . import methods, models
from .config import CUSTOM, RunConfig
from .errors import ConfigError, RunError
from .files import TEMPORARY, alone, project_folder, write_bytes
from .normalization import Normalizer
from .randomness import own_randomness

REPORTED = ("all", "head", "medium", "tail", "many_shot", "medium_shot", "few_shot")


def runs_folder(folder=None):
    """The folder that holds the runs: `folder`, else LTKD_RUNS, else `runs` of the project."""
    return Path(folder or os.environ.get("LTKD_RUNS") or project_folder() / "runs").expanduser()


class Run:
    """A stored run, finished or not. Open one with `Run.open(config, folder)` or `Run.load(its_folder)`."""

    def __init__(self, folder, config):
        self.folder, self.config = Path(folder), config

    def __repr__(self):
        state = "finished" if self.finished else "unfinished"
        return f"Run({self.config.name}, {state})"

    @classmethod
    def open(cls, config, runs=None):
        """The run of this config in the folder `runs`, whether it is there already or not."""
        folder = runs_folder(runs) / config.name
        if (folder / "config.json").is_file():
            run = cls.load(folder)
            if run.config.id != config.id:
                raise RunError(
                    f"{folder} holds another run ({run.config.name}); remove that folder or choose another one with "
                    f"--runs (runs=)"
                )
            return run
        return cls(folder, config)

    @classmethod
    def load(cls, folder):
        """The run stored in `folder`. Raises RunError where what it is, or what came out of it, cannot be read."""
        try:
            run = cls(folder, RunConfig.from_dict(json.loads((Path(folder) / "config.json").read_text())))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{folder} is not a run of this version: config.json cannot be read ({error})") from error
        if run.finished and not (isinstance(run.result, dict) and {"last", "best"} <= set(run.result)):
            raise RunError(f"{folder} is not a run of this version: its result.json holds no accuracies")
        return run

    @contextmanager
    def claimed(self, meanwhile=lambda: None):
        """Within it, no other process trains this run: where one does, this waits until it is done, and calls
        `meanwhile` every few seconds."""
        claim = self.folder / ".claim"
        with alone(claim, f"waiting for another process, which trains {self.config.name}", meanwhile):
            yield
            if self.finished:  # whoever waits for it has nothing left to train, whichever file it locks
                with suppress(OSError):
                    claim.unlink()

    def start(self):
        """Make the run's folder."""
        self._write_json("config.json", self.config.to_dict())

    @property
    def finished(self):
        return (self.folder / "result.json").is_file()

    @property
    def finished_at(self):
        """When the run was finished, in seconds since 1970."""
        return (self.folder / "result.json").stat().st_mtime

    @cached_property
    def result(self):
        """What came out: accuracies of the last and the best epoch, data, hardware, recipe, overrides, assumptions."""
        return self._read("result.json", json.loads)

    @cached_property
    def history(self):
        """One row an epoch (DataFrame): lr, loss and its terms, train_ and test_ accuracies per group, the parts of the
        KL divergence, and in `teacher_mass` and `rebalanced_mass` one list a batch of its summed group mass."""
        import pandas as pd

        return self._read("history.parquet", lambda data: pd.read_parquet(io.BytesIO(data)))

    def batch_mass(self):
        """The teacher's group mass of every batch (DataFrame): epoch, batch, group, before, after rebalancing."""
        import pandas as pd

        names = self.result["groups"]
        rows = [
            (row.epoch, batch, name, before[g], after[g])
            for row in self.history.itertuples()
            for batch, (before, after) in enumerate(zip(row.teacher_mass, row.rebalanced_mass, strict=True))
            for g, name in enumerate(names)
        ]
        return pd.DataFrame(rows, columns=["epoch", "batch", "group", "before", "after"])

    @cached_property
    def _arrays(self):
        return self._read("logits.npz", lambda data: dict(np.load(io.BytesIO(data), allow_pickle=False)))

    @property
    def logits(self):
        """The student's logits on the test set, last epoch: float32 (N, C)."""
        return self._arrays["logits"].astype(np.float32, copy=False)

    @property
    def labels(self):
        """Labels of the test set: (N,)."""
        return self._arrays["labels"]

    @property
    def class_counts(self):
        """Training images of each class: (C,)."""
        return self._arrays["class_counts"]

    def model(self, network=None):
        """The trained student in evaluation mode, as its method made it of the network. `network`: a module of the same
        shape, needed where the student was a module of the caller's."""
        if network is None:
            if self.config.student.startswith(CUSTOM):
                raise RunError(f"the student {self.config.student} was your own module: pass one like it as network=")
            network = models.build(self.config.student, **self.result["shape"], pretrained=False)
        else:
            network = copy.deepcopy(network)  # the method may change it
        with own_randomness("cpu", 0):  # what a method adds to the network is drawn, and then replaced
            network = self._wrapped(network, self.config)
        if self.finished and self.result.get("recorded"):
            raise RunError(f"{self.config.name} was recorded without its weights; fit() its config to train it anew")
        network.load_state_dict(self._read("student.safetensors", load_tensors))
        return network.eval()

    def _wrapped(self, network, config):
        """The network as the method of this config makes it of what the training before leaves."""
        if (parent := config.for_parent()) is not None:
            network = self._wrapped(network, parent)
        task = methods.Task.of(self.result["shape"], self.class_counts, config.n_groups, config.epochs)
        return methods.method_class(config.method)(task, **config.options).wrap(network)

    def predict(self, images, network=None):
        """The trained student's logits on uint8 images (N, channels, side, side): float32 array (N, C)."""
        images, shape = torch.as_tensor(images), self.result["shape"]
        needed = (shape["in_channels"], shape["image_size"], shape["image_size"])
        if images.dtype != torch.uint8 or images.shape[1:] != needed:
            raise ConfigError(
                f"images are {images.dtype} {tuple(images.shape)}: must be torch.uint8 of 0 to 255, (N, {needed[0]}, "
                f"{needed[1]}, {needed[2]})"
            )
        normalize = Normalizer(**self.result["normalization"])
        return predict(self.model(network), (normalize(batch) for batch in images.split(500)))

    def load_checkpoint(self):
        """The state stored last, or None."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return None
        try:
            return torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises anything from EOFError to KeyError here
            raise RunError(f"{path} is damaged ({error}); remove it to train this run from its beginning") from error

    def save_checkpoint(self, state):
        """Replace the stored state by `state`, as `checkpoint_bytes` made it."""
        write_bytes(self.folder / "checkpoint.pt", state)

    def finish(self, network, logits, labels, class_counts, history, result):
        """Store everything that came out; `result.json` last, then drop the checkpoint, and what kills in the middle of
        writing may have left."""
        weights = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
        write_bytes(self.folder / "student.safetensors", save_tensors(weights))
        buffer = io.BytesIO()
        np.savez(buffer, logits=logits, labels=labels, class_counts=class_counts)
        write_bytes(self.folder / "logits.npz", buffer.getvalue())
        write_bytes(self.folder / "history.parquet", _parquet(history))
        self._write_json("result.json", result)
        for left_over in (self.folder / "checkpoint.pt", *self.folder.glob(f"{TEMPORARY}*")):
            left_over.unlink(missing_ok=True)

    def _write_json(self, name, record):
        write_bytes(self.folder / name, (json.dumps(record, indent=2) + "\n").encode())

    def _read(self, name, decode):
        path = self.folder / name
        if not path.is_file():
            state = "is damaged" if self.finished else "is not finished: fit() its config to go on"
            raise RunError(f"{path} is missing; this run {state}")
        try:
            return decode(path.read_bytes())
        except Exception as error:  # every format has its own errors for a file that was cut off
            raise RunError(f"{path} is damaged ({error}); remove {self.folder} to train this run again") from error


@torch.no_grad()
def predict(network, batches):
    """A network's logits on batches of normalised images (B, channels, H, W), in evaluation mode: float32 (N, C)."""
    network.eval()
    return torch.cat([network(images) for images in batches]).float().cpu().numpy()


def checkpoint_bytes(state):
    """A state of tensors and plain values as bytes, which later steps of training cannot change."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _parquet(rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = [{k: v.tolist() if torch.is_tensor(v) else v for k, v in row.items()} for row in rows]
    columns = list(dict.fromkeys(key for row in plain for key in row))
    buffer = io.BytesIO()
    pq.write_table(pa.table({c: [row.get(c) for row in plain] for c in columns}), buffer)
    return buffer.getvalue()


class PackedRun(Run):
    """A finished run in a file that `packing.pack` wrote: config, result and history without its masses; neither
    weights nor logits, but how many test images of each class were taken for which (`confusion`)."""

    finished = True

    def __init__(self, file, config):
        super().__init__(Path(file) / config.name, config)
        self.file = Path(file)

    @property
    def finished_at(self):
        return datetime.fromisoformat(self.result["finished"]).timestamp()

    @property
    def class_counts(self):
        return self._test["class_counts"]

    @property
    def confusion(self):
        """Test images of each true class (rows) that went to each class: (C, C); None with very many classes."""
        return self._test.get("confusion")

    @property
    def per_class(self):
        """Test images of each class that were taken for what they are: (C,)."""
        return self._test["hits"]

    def part(self, name):
        """One of its files, as bytes."""
        return self._read(name, bytes)

    @cached_property
    def _test(self):
        return self._read("test.npz", lambda data: dict(np.load(io.BytesIO(data), allow_pickle=False)))

    def _read(self, name, decode):
        member = f"{self.config.name}/{name}"
        try:
            with zipfile.ZipFile(self.file) as packed:
                data = packed.read(member) if member in packed.namelist() else None
            if data is not None:
                return decode(data)
        except Exception as error:  # every format has its own errors for a file that was cut off
            raise RunError(f"{self.folder}/{name} is damaged ({error}); import that file again") from error
        raise RunError(f"{self.folder} is a packed run, which has no {name}; train it here to have it")


def all_runs(folder=None):
    """Every run stored in `folder`, finished or not, by name: its folders, and those packed in files *.zip there (or
    in `folder` itself, where that is such a file). Of several folders in a list the first with a run counts, or the
    first where it is finished. Folders that hold no run are passed over, and those that are damaged, of another
    version, or of a method that is not in METHODS now: `strangers` names them."""
    found = {}
    for run, _ in _found(folder):
        if run is not None and (run.config.id not in found or run.finished > found[run.config.id].finished):
            found[run.config.id] = run
    return list(found.values())


def packed_runs(folder=None):
    """The runs of `folder` that are packed in files."""
    return [run for run in all_runs(folder) if isinstance(run, PackedRun)]


def strangers(folder=None):
    """The folders and files whose runs cannot be read here: {path: why}."""
    return {path: why for run, (path, why) in _found(folder) if run is None}


def _found(folder):
    """(run or None, (its folder, why it cannot be read or None)) for every folder with a config, and of every file."""
    found = []
    for place in map(runs_folder, folder if isinstance(folder, list | tuple) else [folder]):
        for path in sorted(place.glob("*/config.json")):
            found.append(_tried(path.parent, lambda path=path: Run.load(path.parent)))
        for file in [place] if place.is_file() else sorted(place.glob("*.zip")):
            found += unpacked(file)
    return found


def unpacked(file):
    """The runs in a file of packed runs, as `_found` has them."""
    try:
        with zipfile.ZipFile(file) as packed:
            names = sorted(name for name in packed.namelist() if name.endswith("/config.json"))
            configs = [(name, packed.read(name)) for name in names]
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        return [(None, (Path(file), RunError(f"{file} is not a whole file of packed runs ({error})")))]
    return [_tried(Path(file) / name, partial(_packed_run, file, name, config)) for name, config in configs]


def _packed_run(file, name, config):
    try:
        run = PackedRun(file, RunConfig.from_dict(json.loads(config)))
    except (ValueError, TypeError) as error:
        raise RunError(f"{file}/{name} is not a run of this version ({error})") from error
    if name != f"{run.config.name}/config.json":
        raise RunError(f"{file}/{name} holds another run ({run.config.name})")
    return run


def _tried(path, load):
    try:
        return load(), (path, None)
    except RunError as error:
        return None, (path, error)


def table(folder=None):
    """One row a finished run (DataFrame): `run`, the config's fields, the method's options, then accuracies in per
    cent of the last epoch (all, head, medium, tail, many_shot, medium_shot, few_shot) and of the best (best_all ...),
    which is chosen on the test set and kept only for comparison with papers that report it."""
    return tabulate([run for run in all_runs(folder) if run.finished])


def tabulate(finished):
    """The rows of `table` for the finished runs given."""
    import pandas as pd

    return pd.DataFrame([_row(run) for run in finished])


def _row(run):
    config = {k: ", ".join(map(str, v)) if isinstance(v, list) else v for k, v in run.config.to_dict().items()}
    options = config.pop("options")
    last, best = run.result["last"], run.result["best"]
    accuracies = {k: last.get(k) for k in REPORTED} | {f"best_{k}": best.get(k) for k in ("epoch", *REPORTED)}
    return {"run": run.config.name, **config, **options, **accuracies}


def summarise(frame, by=None, measures=REPORTED):
    """Mean and half-width of the 95 % interval over seeds (Student's t): rows of `table` -> one row a group of `by`.

    by: columns that tell groups apart (default: all settings but the seed, so that only seeds are averaged).
    Columns: `by`, `seeds`, then each measure and `<measure>_ci` (NaN for a single seed).
    """
    import pandas as pd

    if by is None:
        outcomes = {"run", "seed", "recipe", "best_epoch", *REPORTED, *(f"best_{name}" for name in REPORTED)}
        by = [column for column in frame.columns if column not in outcomes]
    rows = []
    for key, part in frame.groupby(list(by), dropna=False, sort=False):
        row = dict(zip(by, key, strict=True)) | {"seeds": len(part)}
        for measure in measures:
            values = part[measure].dropna().astype(float)
            row[measure] = values.mean() if len(values) else math.nan
            row[f"{measure}_ci"] = interval(values)
        rows.append(row)
    return pd.DataFrame(rows)


def interval(values):
    """Half-width of the 95 % confidence interval of the mean (Student's t); NaN for fewer than two values."""
    from scipy.stats import t

    if len(values) < 2:
        return math.nan
    return float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
