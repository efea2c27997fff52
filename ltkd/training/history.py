"""The history of a run: sums over an epoch, and the progress bar."""

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.asyncio import tqdm as plain_tqdm
from tqdm.auto import tqdm

from .. import metrics
from .._support import distributed
from ..config import RunConfig
from ..decomposition import MASKED, decompose_parts
from ..errors import RunError, visible
from ..groups import ClassGroups
from ..losses import rebalance
from ..methods import TEACHER, Step
from .network_check import teacher_called, without_softmax, wrong_logits


class EpochRecord:
    """Sums over an epoch, in tensors that stay on the device and are read once, at the end of the epoch.

    class_counts: (C,), training images of each class. groups, temperature: of the decomposition of the KL divergence
    from the teacher. batches: number of batches in an epoch. teacher: the config's, for messages.
    """

    def __init__(
        self,
        class_counts: np.ndarray,
        groups: ClassGroups,
        temperature: float,
        batches: int,
        device: torch.device,
        teacher: str | None = None,
    ) -> None:
        self.teacher = teacher
        self.class_counts, self.groups, self.temperature, self.batches = class_counts, groups, temperature, batches
        self.hits, self.seen = torch.zeros(2, len(class_counts), device=device)
        self.batch = torch.zeros(1, dtype=torch.long, device=device)  # index of the next batch
        self.terms: dict[str, Tensor] = {}
        self.parts: dict[str, Tensor] = {}
        self.masked = torch.zeros((), device=device)  # images for which the student masks a class
        self.wrong: dict[str, Tensor] = {}  # images without logits, by teacher

    def clear(self) -> None:
        """Set all sums to zero."""
        sums = (self.terms, self.parts, self.wrong)
        for tensor in (self.hits, self.seen, self.batch, self.masked, *(x for each in sums for x in each.values())):
            tensor.zero_()

    @torch.no_grad()
    def add(self, step: Step, terms: Mapping[str, Tensor]) -> None:
        """Add a step and the terms of its loss: {name: 0-dim tensor}."""
        size = len(step.labels)
        for name, term in terms.items():
            self._kept(self.terms, f"loss_{name}", term).add_(term.detach() * size)
        correct = (step.logits.argmax(1) == step.labels).float()
        self.hits.index_add_(0, step.labels, correct)
        self.seen.index_add_(0, step.labels, torch.ones_like(correct))
        self.masked += (step.logits <= MASKED).any(1).sum()
        if TEACHER in step.teachers:
            parts = decompose_parts(step.logits, step.teacher_logits, self.groups, temperature=self.temperature)
            kl = torch.cat([parts.cross[:, None], parts.within], 1).sum(0)
            self._kept(self.parts, "kl", kl).add_(kl)
            mass = distributed.total(parts.teacher_mass.sum(0))
            self._note("teacher_mass", mass)
            self._note("rebalanced_mass", distributed.total(rebalance(parts.teacher_mass, mass).sum(0)))
        for name, answer in step.teachers.items():
            if answer.has_logits:
                wrong = without_softmax(answer.logits).sum()
                self._kept(self.wrong, name, wrong).add_(wrong)
        self.batch += 1

    def _kept(self, sums: dict[str, Tensor], name: str, like: Tensor, *more: int) -> Tensor:
        """The tensor `sums[name]`; at first zeros of the shape (*more, *like.shape)."""
        if name not in sums:
            sums[name] = like.new_zeros((*more, *like.shape))
        return sums[name]

    def _note(self, name: str, values: Tensor) -> None:
        """Store values of this batch."""
        self._kept(self.parts, name, values, self.batches).index_copy_(0, self.batch, values[None])

    def row(self, epoch: int) -> dict[str, Any]:
        """The epoch's columns of the history, over the images of all processes. Raises RunError, which says why, if the
        loss is not finite."""
        hits, seen = distributed.total(self.hits).cpu(), distributed.total(self.seen).cpu()
        n = int(seen.sum(dtype=torch.double))
        terms = {name: float(distributed.total(total)) / n for name, total in self.terms.items()}
        loss = sum(terms.values())
        if not math.isfinite(loss):
            raise self._why(loss, epoch, n)
        row: dict[str, Any] = {"loss": loss, **terms, **prefixed("train_", self._accuracies(hits, seen))}
        if self.parts:
            names = ["cross_kl", *(f"within_kl_{name}" for name in self.groups.names)]
            row |= dict(zip(names, (distributed.total(self.parts["kl"]) / n).tolist(), strict=True))
            row |= {name: self.parts[name].to("cpu", copy=True) for name in ("teacher_mass", "rebalanced_mass")}
        return row

    def _why(self, loss: float, epoch: int, images: int) -> RunError:
        """The error for a loss that is not finite: a teacher is at fault, a mask of the student, or the training."""
        for name, total in self.wrong.items():
            if wrong := int(distributed.total(total)):
                return wrong_logits(teacher_called(name, self.teacher), wrong, images)
        if loss == math.inf and distributed.total(self.masked) > 0:
            return RunError(
                f"the loss is inf in epoch {epoch}: the student masks (-inf) a class that is a label, or that its "
                f"teacher does not mask; let the student mask fewer classes"
            )
        return RunError(
            f"the loss is {loss} in epoch {epoch}: training has diverged. Lower --lr or the weights of the method's "
            f"terms (such as --alpha and --beta), or raise --warmup"
        )

    def _accuracies(self, hits: Tensor, seen: Tensor) -> dict[str, float | None]:
        """Accuracies in per cent from correct and all images of each class, (C,) each."""
        per_class = metrics.per_cent(hits.double().numpy(), seen.double().numpy())
        means = metrics.group_means(per_class, metrics.thirds(self.class_counts))
        return {"all": 100 * float(hits.sum() / seen.sum()), "balanced": metrics.mean_known(per_class), **means}


def prefixed(prefix: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with `prefix` before each key."""
    return {prefix + key: value for key, value in record.items()}


class ProgressBar:
    """A bar over the images of all epochs, with the loss and the accuracy of each group.

    epochs: of the run. images: of an epoch. done: finished epochs. show: False draws nothing.
    """

    def __init__(self, config: RunConfig, epochs: int, images: int, done: int, show: bool) -> None:
        label = visible(f"{config.method} {config.student} seed {config.seed}")
        # In a file (nohup, a cluster, CI) every update is a new line, so there are few. In a notebook, tqdm.auto is
        # not the plain class.
        seconds = 0.1 if sys.stderr.isatty() or tqdm is not plain_tqdm else 30
        self.bar = tqdm(
            total=epochs * images,
            initial=done * images,
            desc=label,
            unit="img",
            unit_scale=True,
            disable=not show,
            leave=False,
            mininterval=seconds,
            maxinterval=max(10, seconds),
        )

    def update(self, n: int) -> None:
        """Add n images."""
        self.bar.update(n)

    def show(self, row: Mapping[str, Any]) -> None:
        """Show the loss and the accuracies of an epoch, a row of the history."""
        where = "test" if row.get("test_all") is not None else "train"
        names = [name.removeprefix("train_") for name in row if name.startswith("train_")]
        scores = {name: row[f"{where}_{name}"] for name in names}
        accuracies = " ".join(f"{name} {score:.0f}" for name, score in scores.items() if score is not None)
        self.bar.set_postfix_str(f"epoch {row['epoch']} loss {row['loss']:.2f} {where} % {accuracies}", refresh=False)

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()
