"""Run: one stored run, with its config, result, history, logits and weights."""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from .. import methods, models
from .._support.ambient import torch_defaults
from .._support.fingerprint import unwrapped
from .._support.seeding import own_randomness
from .._support.storage import (
    TEMPORARY,
    alone,
    chosen_folder,
    project_folder,
    read_bytes,
    seal,
    staged,
    unseal,
    write_bytes,
)
from ..config import CUSTOM, RunConfig
from ..datasets.normalization import Normalizer
from ..errors import ConfigError, RunError
from .result_file import check_digest, parse_json, parse_result, problem_of, sealed, to_json

if TYPE_CHECKING:
    import pandas as pd

_RETRAIN = "train this run here: fit(run.config, weights=True)"
OPTIONAL = {"student.safetensors": "weights", "logits.npz": "logits", "test.npz": "logits"}  # see Run


def runs_folder(folder: str | Path | None = None) -> Path:
    """The folder of all runs: `folder`, else the variable LTKD_RUNS, else the project's folder `runs`.

    Raises ConfigError if `folder` is empty or no path.
    """
    return chosen_folder("runs", folder, "LTKD_RUNS", project_folder() / "runs")


class Run:
    """A stored run, finished or not. Open one with `Run.open(config, folder)` or `Run.load(its_folder)`.

    An imported or recorded run may lack its weights (student.safetensors): then `model` and `predict` raise RunError.
    It may hold test.npz in place of logits.npz: then `class_counts`, `per_class` and `confusion` still work, and
    `logits` and `labels` raise RunError.
    """

    def __init__(self, folder: str | Path, config: RunConfig) -> None:
        self.folder, self.config = Path(folder), config

    def __repr__(self) -> str:
        state = "finished" if self.finished else "unfinished"
        return f"Run({self.config.name}, {state})"

    @classmethod
    def open(cls, config: RunConfig, runs: str | Path | None = None) -> Self:
        """The run of this config in the folder `runs` (None: see `runs_folder`); the run need not exist yet.

        Raises RunError if its folder cannot be read or holds another run.
        """
        folder = runs_folder(runs) / config.name
        if os.path.isfile(folder / "config.json"):
            run = cls.load(folder)
            if run.config.id != config.id:
                raise RunError(
                    f"{folder} holds another run ({run.config.name}); remove that folder or choose another one with "
                    f"--runs (runs=)"
                )
            return run
        return cls(folder, config)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The run stored in `folder`. Raises RunError if its config.json or result.json cannot be read, or was changed
        after the run was stored."""
        data = read_bytes(Path(folder) / "config.json")
        try:
            run = cls(folder, RunConfig.from_dict(parse_json(data)))
        except Exception as error:  # an edited config may raise any error
            raise RunError(f"{folder} is not a run of this version: config.json cannot be read ({error})") from error
        if run.finished:
            if problem := problem_of(run.result):
                raise RunError(f"{folder} is not a run of this version: its result.json {problem}")
            try:
                check_digest(run.result, "config.json", data)
            except ValueError:
                raise RunError(
                    f"{folder} is damaged: its config.json and result.json were not stored together; remove it to "
                    f"train this run again"
                ) from None
        return run

    @contextmanager
    def claimed(self, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Context manager: no other process trains this run inside it. If one does, waits until it ends and calls
        `meanwhile` every few seconds."""
        claim = self.folder / ".claim"
        with alone(claim, f"waiting for another process that trains {self.config.name}", meanwhile):
            yield
            if (
                self.finished
            ):  # a waiting process then has nothing to train, so it does not matter if it locks a new file
                with suppress(OSError):
                    claim.unlink()

    def start(self) -> None:
        """Create the run's folder with its config.json, unless they are there."""
        if not os.path.isfile(self.folder / "config.json"):
            write_bytes(self.folder / "config.json", to_json(self.config.to_dict()))

    @property
    def finished(self) -> bool:
        """True if the run has a result."""
        return os.path.isfile(self.folder / "result.json")

    @property
    def has_weights(self) -> bool:
        """True if the student's weights are stored. Other runs can build on this run only then."""
        return os.path.isfile(self.folder / "student.safetensors")

    @property
    def has_logits(self) -> bool:
        """True if the test logits are stored."""
        return os.path.isfile(self.folder / "logits.npz")

    @property
    def finished_at(self) -> float:
        """When the run was finished here, or imported, in seconds since 1970."""
        return (self.folder / "result.json").stat().st_mtime

    @cached_property
    def result(self) -> dict[str, Any]:
        """The content of result.json: accuracies of the last and the best epoch in per cent, data, hardware, recipe,
        overrides and assumptions. Raises RunError if the run is not finished."""
        return self.read("result.json", parse_result)

    @cached_property
    def history(self) -> "pd.DataFrame":
        """One row per epoch: learning rate, loss and its terms, train_ and test_ accuracies per group, and the parts of
        the KL divergence. `teacher_mass` and `rebalanced_mass` hold one list per batch: the group mass summed over the
        batch. Raises RunError if the run is not finished."""
        import pandas as pd

        return self.read("history.parquet", lambda data: pd.read_parquet(io.BytesIO(data)))

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        return self.read("logits.npz", _parse_arrays)

    @cached_property
    def _counts(self) -> dict[str, np.ndarray]:
        return self.read("test.npz", _parse_arrays)

    @property
    def logits(self) -> np.ndarray:
        """The student's test logits after the last epoch: float32 (N, C). Raises RunError if they are not stored."""
        return self._arrays["logits"].astype(np.float32, copy=False)

    @property
    def labels(self) -> np.ndarray:
        """Labels of the test set: (N,). Raises RunError if they are not stored."""
        return self._arrays["labels"]

    @property
    def class_counts(self) -> np.ndarray:
        """Number of training images per class: (C,)."""
        return (self._arrays if self.has_logits else self._counts)["class_counts"]

    @property
    def per_class(self) -> np.ndarray:
        """Number of correctly classified test images per class after the last epoch: int (C,)."""
        if not self.has_logits:
            return self._counts["hits"]
        hits = self.logits.argmax(1) == self.labels
        return np.bincount(self.labels[hits], minlength=len(self.class_counts)).astype(np.int32)

    @property
    def confusion(self) -> np.ndarray:
        """Number of test images by true class (rows) and predicted class (columns) after the last epoch: int (C, C).

        Raises RunError for an imported run with too many classes (`archive.MOST_CLASSES`).
        """
        if not self.has_logits:
            if "confusion" not in self._counts:
                raise RunError(f"{self.folder}/test.npz holds no confusion of so many classes; {_RETRAIN}")
            return self._counts["confusion"]
        classes = len(self.class_counts)
        pairs = np.bincount(classes * self.labels + self.logits.argmax(1), minlength=classes**2)
        return pairs.reshape(classes, classes).astype(np.int32)

    def model(self, network: nn.Module | None = None) -> nn.Module:
        """The trained student in evaluation mode, with the layers that its method adds.

        network: a module with the same layers; needed only if the student was the user's own module. It is copied.
        Raises RunError if the weights are not stored, or if `network` is needed and missing.
        """
        return self.trained(network).eval()

    @torch_defaults()
    def trained(self, network: nn.Module | None = None) -> nn.Module:
        """As `model`, but each layer is in the mode, training or evaluation, that it has in `network`."""
        if network is None:
            if self.config.student.startswith(CUSTOM):
                raise RunError(f"the student {self.config.student} is your own module: pass one like it as network=")
            network = models.build(self.config.student, **self.result["shape"], pretrained=False)
        else:
            network = models.copied(unwrapped(network))  # the method may change the module
        with own_randomness("cpu", 0):  # layers that the method adds start random, until the weights are loaded
            network = self._wrapped(network, self.config)
        weights = self.read("student.safetensors", load_tensors)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            name = type(network).__name__
            raise RunError(
                f"the weights of {self.config.name} do not fit this {name}; pass one like that of the run: {error}"
            ) from error
        return network

    def _wrapped(self, network: nn.Module, config: RunConfig) -> nn.Module:
        """The network with the layers that the methods of all stages add, the first stage first."""
        if (parent := config.for_parent()) is not None:
            network = self._wrapped(network, parent)
        task = methods.Task.of(self.result["shape"], self.class_counts, config.n_groups, config.epochs)
        return methods.method_class(config.method)(task, **config.options).wrap(network)

    @torch_defaults()
    def predict(self, images: torch.Tensor | np.ndarray, network: nn.Module | None = None) -> np.ndarray:
        """The trained student's logits on images: float32 (N, C).

        images: uint8 (N, channels, side, side), not normalized; network: as for `model`. Raises ConfigError for images
        of another type or shape, RunError if the weights are not stored.
        """
        images, shape = torch.as_tensor(images), self.result["shape"]
        needed = (shape["in_channels"], shape["image_size"], shape["image_size"])
        if images.dtype != torch.uint8 or images.shape[1:] != needed:
            raise ConfigError(
                f"images are {images.dtype} {tuple(images.shape)}: must be torch.uint8 from 0 to 255, of shape "
                f"(N, {needed[0]}, {needed[1]}, {needed[2]})"
            )
        normalize = Normalizer(**self.result["normalization"])
        return predict(self.model(network), (normalize(batch) for batch in images.split(500)))

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last stored training state; None if there is none, or if the result is newer.

        A state newer than the result belongs to a retraining, which will replace that result. Raises RunError if the
        file cannot be read, is damaged or belongs to another run.
        """
        path = self.folder / "checkpoint.pt"
        if not os.path.isfile(path) or (self.finished and path.stat().st_mtime <= self.finished_at):
            return None
        data = read_bytes(path)
        try:
            if not data.startswith(b"PK"):  # a state of an older version has no digest, and starts as a zip file does
                data = unseal(data, self.config.name)
            return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises many types of errors here
            raise RunError(f"{path} is damaged ({error}); remove it to train this run from the first epoch") from error

    def save_checkpoint(self, state: bytes) -> None:
        """Replace the stored training state. state: the output of `checkpoint_bytes`."""
        self.start()  # the folder may have been removed meanwhile
        write_bytes(self.folder / "checkpoint.pt", seal(state, self.config.name))

    def finish(
        self,
        network: nn.Module,
        logits: np.ndarray,
        labels: np.ndarray,
        class_counts: np.ndarray,
        history: list[dict[str, Any]],
        result: dict[str, Any],
    ) -> None:
        """Store the outcome of the training, result.json last; then remove the checkpoint and temporary files.

        result.json holds the digests of all other files, see `sealed`. config.json is written again, because it, or the
        whole folder, may have been removed meanwhile. An older result is removed when all new files are written, before
        the first gets its name: old and new files never mix, and a full disk leaves the old ones.

        network: the trained student; logits (N, C) and labels (N,): of the test set, after the last epoch;
        class_counts (C,): number of training images per class; history: one dict per epoch; result: see `result`.
        """
        weights = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
        buffer = io.BytesIO()
        np.savez(buffer, logits=logits, labels=labels, class_counts=class_counts)
        files = {
            "config.json": to_json(self.config.to_dict()),
            "student.safetensors": save_tensors(weights),
            "logits.npz": buffer.getvalue(),
            "history.parquet": _parquet(history),
        }
        files["result.json"] = to_json(sealed(result, files))
        with staged({self.folder / name: data for name, data in files.items()}):
            (self.folder / "result.json").unlink(missing_ok=True)
        for name in ("checkpoint.pt", "test.npz"):
            (self.folder / name).unlink(missing_ok=True)
        for left_over in self.folder.glob(f"{TEMPORARY}*"):
            left_over.unlink(missing_ok=True)
        for name in ("result", "history", "_arrays", "_counts"):
            self.__dict__.pop(name, None)

    def read(self, name: str, decode: Callable[[bytes], Any] = bytes) -> Any:
        """The decoded content of one of the run's files. Raises RunError if the file is missing, cannot be read, is not
        the one that was stored with the result, or if `decode` fails."""
        path = self.folder / name
        if not os.path.isfile(path):
            raise RunError(f"{path} is missing; {self._why_missing(name)}")
        data, result = read_bytes(path), self.result if name != "result.json" and self.finished else {}
        try:
            check_digest(result, name, data)
            return decode(data)
        except Exception as error:  # each file format has its own errors for damaged files
            raise RunError(f"{path} is damaged ({error}); remove {self.folder} to train this run again") from error

    def _why_missing(self, name: str) -> str:
        if not self.finished:
            return "this run is not finished: continue it with fit(run.config)"
        if name in OPTIONAL:
            return f"this run was stored without its {OPTIONAL[name]}; {_RETRAIN}"
        return "this run is damaged"


def _parse_arrays(data: bytes) -> dict[str, np.ndarray]:
    return dict(np.load(io.BytesIO(data), allow_pickle=False))


@torch.no_grad()
def predict(network: nn.Module, batches: Iterable[torch.Tensor]) -> np.ndarray:
    """A network's logits in evaluation mode: float32 (N, C). batches: normalized images (B, channels, H, W)."""
    network.eval()
    return torch.cat([network(images).clone() for images in batches]).float().cpu().numpy()


def checkpoint_bytes(state: dict[str, Any]) -> bytes:
    """A training state as bytes, which later training steps cannot change. state: tensors and plain values."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = [{k: v.tolist() if torch.is_tensor(v) else v for k, v in row.items()} for row in rows]
    columns = list(dict.fromkeys(key for row in plain for key in row))
    buffer = io.BytesIO()
    pq.write_table(pa.table({c: [row.get(c) for row in plain] for c in columns}), buffer)
    return buffer.getvalue()
