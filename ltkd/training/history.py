"""What is written down while a run trains: sums over an epoch, and the progress bar."""

import math
import sys

import torch
from tqdm.asyncio import tqdm as plain_tqdm
from tqdm.auto import tqdm

from .. import metrics
from .._support import distributed
from ..decomposition import decompose_parts
from ..errors import RunError
from ..losses import rebalance
from ..methods import TEACHER


class EpochRecord:
    """Sums over an epoch, in tensors that stay where they are on the device, and are read once at the epoch's end.

    class_counts (C,): training images of each class; groups, temperature: into which, and at which, the teacher's
    divergence is split; batches: how many an epoch has.
    """

    def __init__(self, class_counts, groups, temperature, batches, device):
        self.class_counts, self.groups, self.temperature, self.batches = class_counts, groups, temperature, batches
        self.hits, self.seen = torch.zeros(2, len(class_counts), device=device)
        self.batch = torch.zeros(1, dtype=torch.long, device=device)  # which one comes next
        self.terms, self.parts = {}, {}

    def clear(self) -> None:
        """Set all sums to zero, at the beginning of an epoch."""
        for tensor in (self.hits, self.seen, self.batch, *self.terms.values(), *self.parts.values()):
            tensor.zero_()

    @torch.no_grad()
    def add(self, step, terms):
        size = len(step.labels)
        for name, term in terms.items():
            self._kept(self.terms, f"loss_{name}", term).add_(term.detach() * size)
        correct = (step.logits.argmax(1) == step.labels).float()
        self.hits.index_add_(0, step.labels, correct)
        self.seen.index_add_(0, step.labels, torch.ones_like(correct))
        if TEACHER in step.teachers:
            parts = decompose_parts(step.logits, step.teacher_logits, self.groups, temperature=self.temperature)
            kl = torch.cat([parts.cross[:, None], parts.within], 1).sum(0)
            self._kept(self.parts, "kl", kl).add_(kl)
            mass = distributed.total(parts.teacher_mass.sum(0))
            self._note("teacher_mass", mass)
            self._note("rebalanced_mass", distributed.total(rebalance(parts.teacher_mass, mass).sum(0)))
        self.batch += 1

    def _kept(self, sums, name, like, *more):
        """The tensor of that name, made when first asked for: zeros of the shape of `like`, after `more` dimensions."""
        if name not in sums:
            sums[name] = like.new_zeros((*more, *like.shape))
        return sums[name]

    def _note(self, name, values):
        """Write down values of this batch alone."""
        self._kept(self.parts, name, values, self.batches).index_copy_(0, self.batch, values[None])

    def row(self, epoch):
        """The epoch's columns of the history, over the images of all processes."""
        hits, seen = distributed.total(self.hits).cpu(), distributed.total(self.seen).cpu()
        n = int(seen.sum(dtype=torch.double))
        terms = {name: float(distributed.total(total)) / n for name, total in self.terms.items()}
        loss = sum(terms.values())
        if not math.isfinite(loss):
            raise RunError(
                f"the loss is {loss} in epoch {epoch}: training has diverged. Lower --lr, the weights of the "
                f"method's terms (such as --alpha and --beta), or lengthen --warmup"
            )
        row = {"loss": loss, **terms, **prefixed("train_", self._accuracies(hits, seen))}
        if self.parts:
            names = ["cross_kl", *(f"within_kl_{name}" for name in self.groups.names)]
            row |= dict(zip(names, (distributed.total(self.parts["kl"]) / n).tolist(), strict=True))
            row |= {name: self.parts[name].to("cpu", copy=True) for name in ("teacher_mass", "rebalanced_mass")}
        return row

    def _accuracies(self, hits, seen):
        groups = metrics.thirds(self.class_counts)
        by_group = {
            name: 100 * float(hits[groups.index == g].sum() / seen[groups.index == g].sum())
            for g, name in enumerate(groups.names)
        }
        return {"all": 100 * float(hits.sum() / seen.sum()), **by_group}


def prefixed(prefix, record):
    return {prefix + key: value for key, value in record.items()}


class ProgressBar:
    """tqdm over the images of all epochs, with loss and accuracy per group behind it."""

    def __init__(self, config, epochs, images, done, show):
        label = f"{config.method} {config.student} seed {config.seed}"
        # In a file (nohup, a job of a cluster, CI) every drawing is a line that stays: few of them will do. tqdm.auto
        # is another class than the plain one in a notebook.
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

    def update(self, n):
        self.bar.update(n)

    def show(self, row):
        where = "test" if row.get("test_all") is not None else "train"
        names = [name.removeprefix("train_") for name in row if name.startswith("train_")]
        accuracies = " ".join(f"{name} {row[f'{where}_{name}']:.0f}" for name in names)
        self.bar.set_postfix_str(f"epoch {row['epoch']} loss {row['loss']:.2f} {where} % {accuracies}", refresh=False)

    def close(self):
        self.bar.close()
