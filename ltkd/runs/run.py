"""A run: its folder, and what can be read from it."""

import copy
import io
import json
import os
from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from .. import methods, models
from .._support.ambient import torch_defaults
from .._support.seeding import own_randomness
from .._support.storage import TEMPORARY, alone, project_folder, write_bytes
from ..config import CUSTOM, RunConfig
from ..datasets.normalization import Normalizer
from ..errors import ConfigError, RunError

REPORTED = ("all", "head", "medium", "tail", "many_shot", "medium_shot", "few_shot")
_RETRAIN = "train it here to have it: fit(run.config, weights=True)"
OPTIONAL = {"student.safetensors": "weights", "logits.npz": "logits", "test.npz": "logits"}  # see Run


def runs_folder(folder: str | Path | None = None) -> Path:
    """The folder that holds the runs: `folder`, else LTKD_RUNS, else `runs` of the project."""
    return Path(folder or os.environ.get("LTKD_RUNS") or project_folder() / "runs").expanduser()


class Run:
    """A stored run, finished or not. Open one with `Run.open(config, folder)` or `Run.load(its_folder)`.

    A finished run that was imported or recorded may lack its weights (student.safetensors), and may hold test.npz in
    place of logits.npz: then `class_counts`, `per_class` and `confusion` are there, and `logits` and `model` raise
    RunError.
    """

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
    def load(cls, folder: str | Path) -> "Run":
        """The run stored in `folder`. Raises RunError if its config.json or result.json cannot be read."""
        try:
            run = cls(folder, RunConfig.from_dict(parse_json((Path(folder) / "config.json").read_bytes())))
        except Exception as error:  # a config that somebody edited may raise anything
            raise RunError(f"{folder} is not a run of this version: config.json cannot be read ({error})") from error
        if run.finished and (problem := problem_of(run.result)):
            raise RunError(f"{folder} is not a run of this version: its result.json {problem}")
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
    def finished(self) -> bool:
        return (self.folder / "result.json").is_file()

    @property
    def has_weights(self) -> bool:
        """True if the student's weights are stored: only then can the run teach or be continued."""
        return (self.folder / "student.safetensors").is_file()

    @property
    def has_logits(self) -> bool:
        """True if the test logits are stored."""
        return (self.folder / "logits.npz").is_file()

    @property
    def finished_at(self) -> float:
        """When the run was finished here, or imported, in seconds since 1970."""
        return (self.folder / "result.json").stat().st_mtime

    @cached_property
    def result(self):
        """What came out: accuracies of the last and the best epoch, data, hardware, recipe, overrides, assumptions."""
        return self.read("result.json", parse_json)

    @cached_property
    def history(self):
        """One row an epoch (DataFrame): lr, loss and its terms, train_ and test_ accuracies per group, the parts of the
        KL divergence, and in `teacher_mass` and `rebalanced_mass` one list a batch of its summed group mass."""
        import pandas as pd

        return self.read("history.parquet", lambda data: pd.read_parquet(io.BytesIO(data)))

    @cached_property
    def _arrays(self):
        return self.read("logits.npz", _parse_arrays)

    @cached_property
    def _counts(self):
        return self.read("test.npz", _parse_arrays)

    @property
    def logits(self) -> np.ndarray:
        """The student's logits on the test set, last epoch: float32 (N, C). Raises RunError if they are not stored."""
        return self._arrays["logits"].astype(np.float32, copy=False)

    @property
    def labels(self) -> np.ndarray:
        """Labels of the test set: (N,). Raises RunError if they are not stored."""
        return self._arrays["labels"]

    @property
    def class_counts(self) -> np.ndarray:
        """Training images of each class: (C,)."""
        return (self._arrays if self.has_logits else self._counts)["class_counts"]

    @property
    def per_class(self) -> np.ndarray:
        """Test images of each class that were classified correctly, last epoch: int (C,)."""
        if not self.has_logits:
            return self._counts["hits"]
        hits = self.logits.argmax(1) == self.labels
        return np.bincount(self.labels[hits], minlength=len(self.class_counts)).astype(np.int32)

    @property
    def confusion(self) -> np.ndarray:
        """Test images by true class (rows) and predicted class (columns), last epoch: int (C, C). Raises RunError for
        a run of very many classes that was imported."""
        if not self.has_logits:
            if "confusion" not in self._counts:
                raise RunError(f"{self.folder}/test.npz holds no confusion of so many classes; {_RETRAIN}")
            return self._counts["confusion"]
        classes = len(self.class_counts)
        pairs = np.bincount(classes * self.labels + self.logits.argmax(1), minlength=classes**2)
        return pairs.reshape(classes, classes).astype(np.int32)

    @torch_defaults()
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
        network.load_state_dict(self.read("student.safetensors", load_tensors))
        return network.eval()

    def _wrapped(self, network, config):
        """The network as the method of this config makes it of what the training before leaves."""
        if (parent := config.for_parent()) is not None:
            network = self._wrapped(network, parent)
        task = methods.Task.of(self.result["shape"], self.class_counts, config.n_groups, config.epochs)
        return methods.method_class(config.method)(task, **config.options).wrap(network)

    @torch_defaults()
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

    def load_checkpoint(self) -> dict | None:
        """The state stored last, or None. Beside a result it counts only if it is newer: then it belongs to the
        training that is to replace that result."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file() or (self.finished and path.stat().st_mtime <= self.finished_at):
            return None
        try:
            return torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises anything from EOFError to KeyError here
            raise RunError(f"{path} is damaged ({error}); remove it to train this run from its beginning") from error

    def save_checkpoint(self, state):
        """Replace the stored state by `state`, as `checkpoint_bytes` made it."""
        write_bytes(self.folder / "checkpoint.pt", state)

    def finish(
        self,
        network: torch.nn.Module,
        logits: np.ndarray,
        labels: np.ndarray,
        class_counts: np.ndarray,
        history: list[dict],
        result: dict,
    ) -> None:
        """Store the outcome, `result.json` last; then remove the checkpoint and what killed processes left.

        The result of an earlier training, or of an import, is removed first, so that old and new never mix.
        """
        (self.folder / "result.json").unlink(missing_ok=True)
        weights = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
        write_bytes(self.folder / "student.safetensors", save_tensors(weights))
        buffer = io.BytesIO()
        np.savez(buffer, logits=logits, labels=labels, class_counts=class_counts)
        write_bytes(self.folder / "logits.npz", buffer.getvalue())
        write_bytes(self.folder / "history.parquet", _parquet(history))
        self._write_json("result.json", result)
        for name in ("checkpoint.pt", "test.npz"):
            (self.folder / name).unlink(missing_ok=True)
        for left_over in self.folder.glob(f"{TEMPORARY}*"):
            left_over.unlink(missing_ok=True)
        for name in ("result", "history", "_arrays", "_counts"):
            self.__dict__.pop(name, None)

    def _write_json(self, name, record):
        write_bytes(self.folder / name, (json.dumps(record, indent=2) + "\n").encode())

    def read(self, name: str, decode: Callable = bytes) -> object:
        """What `decode` makes of the bytes of one of the run's files. Raises RunError if the file is missing, or if
        `decode` raises."""
        path = self.folder / name
        if not path.is_file():
            raise RunError(f"{path} is missing; {self._why_missing(name)}")
        try:
            return decode(path.read_bytes())
        except Exception as error:  # every format has its own errors for a file that was cut off
            raise RunError(f"{path} is damaged ({error}); remove {self.folder} to train this run again") from error

    def _why_missing(self, name):
        if not self.finished:
            return "this run is not finished: fit() its config to go on"
        if name in OPTIONAL:
            return f"this run was stored without its {OPTIONAL[name]}; {_RETRAIN}"
        return "this run is damaged"


def parse_json(data: bytes) -> object:
    """The value of a JSON text. NaN, which is not JSON, is read as None, for the sake of older results. Raises
    ValueError if it is no JSON."""
    try:
        return json.loads(data, parse_constant={"NaN": None}.__getitem__)
    except (KeyError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from error


def problem_of(result: object) -> str | None:
    """What makes a result.json unfit for a table; None if nothing does. None as an accuracy is that of a group without
    test images."""
    for epoch in ("last", "best"):
        scores = result.get(epoch) if isinstance(result, dict) else None
        scores = [scores.get(name) for name in REPORTED] if isinstance(scores, dict) else [None]
        if scores[0] is None or not all(s is None or (type(s) in (int, float) and 0 <= s <= 100) for s in scores):
            return f"has no accuracies from 0 to 100 of its {epoch} epoch"
    for name in ("name", "train_fingerprint"):
        if not isinstance(result.get(name, ""), str):
            return f"has a {name} that is no text"
    return None


def _parse_arrays(data):
    return dict(np.load(io.BytesIO(data), allow_pickle=False))


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
