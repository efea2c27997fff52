"""A run: its folder, and what can be read from it."""

import copy
import io
import json
import os
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
        """Store everything that came out; `result.json` last, then drop the checkpoint, and what kills in the middle of
        writing may have left. A result of an earlier training goes first, so that nothing of it mixes with the new."""
        (self.folder / "result.json").unlink(missing_ok=True)
        for name in ("result", "history", "_arrays"):
            vars(self).pop(name, None)
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
