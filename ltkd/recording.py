"""What is written down while a run trains: sums over an epoch, and the progress bar."""

import math

import torch
from tqdm.auto import tqdm

from . import evaluation, parallel
from .decomposition import decompose_parts
from .errors import RunError
from .losses import rebalance
from .methods import TEACHER


class EpochRecord:
    """Sums over an epoch, kept on the device and read once at its end."""

    def __init__(self, job):
        self.job, self.n = job, 0
        self.terms, self.kl, self.mass, self.rebalanced = {}, 0.0, [], []
        self.hits, self.seen = torch.zeros(2, len(job.class_counts), device=job.device)
        self.temperature = getattr(job.method, "temperature", 1.0)

    @torch.no_grad()
    def add(self, step, terms):
        size = len(step.labels)
        self.n += size
        for name, term in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + term.detach() * size
        correct = (step.logits.argmax(1) == step.labels).float()
        self.hits.index_add_(0, step.labels, correct)
        self.seen.index_add_(0, step.labels, torch.ones_like(correct))
        if TEACHER in step.teachers:
            parts = decompose_parts(step.teacher_logits, step.logits, self.job.groups, temperature=self.temperature)
            self.kl = self.kl + torch.cat([parts.cross[:, None], parts.within], 1).sum(0)
            mass = parallel.total(parts.teacher_mass.sum(0))
            self.mass.append(mass)
            self.rebalanced.append(parallel.total(rebalance(parts.teacher_mass, mass).sum(0)))

    def row(self, epoch):
        """The epoch's columns of the history, over the images of all processes."""
        self._add_up()
        terms = {f"loss_{name}": float(total) / self.n for name, total in self.terms.items()}
        loss = sum(terms.values())
        if not math.isfinite(loss):
            raise RunError(
                f"the loss is {loss} in epoch {epoch}: training has diverged. Lower --lr, the weights of the "
                f"method's terms (such as --alpha and --beta), or lengthen --warmup"
            )
        row = {"loss": loss, **terms, **prefixed("train_", self._accuracies())}
        if self.mass:
            names = ["cross_kl", *(f"within_kl_{name}" for name in self.job.groups.names)]
            row |= dict(zip(names, (self.kl / self.n).tolist(), strict=True))
            row |= {"teacher_mass": _stack(self.mass), "rebalanced_mass": _stack(self.rebalanced)}
        return row

    def _add_up(self):
        self.n = int(parallel.total(torch.tensor(self.n, device=self.job.device)))
        self.terms = {name: parallel.total(term) for name, term in self.terms.items()}
        self.hits, self.seen = parallel.total(self.hits), parallel.total(self.seen)
        if self.mass:
            self.kl = parallel.total(self.kl)

    def _accuracies(self):
        groups = evaluation.thirds(self.job.class_counts)
        hits, seen = self.hits.cpu(), self.seen.cpu()
        by_group = {
            name: 100 * float(hits[groups.index == g].sum() / seen[groups.index == g].sum())
            for g, name in enumerate(groups.names)
        }
        return {"all": 100 * float(hits.sum() / seen.sum()), **by_group}


def _stack(tensors):
    return torch.stack(tensors).cpu()


def prefixed(prefix, record):
    return {prefix + key: value for key, value in record.items()}


class ProgressBar:
    """tqdm over the images of all epochs, with loss and accuracy per group behind it."""

    def __init__(self, config, epochs, images, done, show):
        label = f"{config.method} {config.student} seed {config.seed}"
        total = epochs * images
        self.bar = tqdm(
            total=total, initial=done * images, desc=label, unit="img", unit_scale=True, disable=not show, leave=False
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
