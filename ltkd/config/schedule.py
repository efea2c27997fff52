"""The learning rate over the epochs."""

import math
from typing import NamedTuple

SCHEDULES = ("steps", "cosine")


class Schedule(NamedTuple):
    """The learning rate as a function of the epoch.

    kind: a name in SCHEDULES. 'steps': the rate is multiplied by `decay` after each of `milestones`, fractions of the
    epochs. 'cosine': half a cosine from `lr` to 0. epochs: length of the training. warmup: the first fraction of the
    epochs, in which the rate grows linearly.
    """

    kind: str
    epochs: int
    lr: float
    warmup: float = 0.0
    milestones: tuple[float, ...] = ()
    decay: float = 0.1

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1."""
        if epoch < (warmup := self.warmup * self.epochs):
            return self.lr * epoch / warmup
        if self.kind == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / self.epochs))
        # The first epoch has the full rate, even in a run of few epochs.
        falls = sum(epoch > max(1, round(fraction * self.epochs, 6)) for fraction in self.milestones)
        return self.lr * self.decay**falls

    def tests_after(self, epoch: int, every: int) -> bool:
        """True if the student is tested after this epoch, counted from 1: after every `every` epochs, and after each
        epoch once the learning rate is low."""
        low_from = 0.8 if self.kind == "cosine" else min(self.milestones, default=1.0)
        return epoch > low_from * self.epochs or epoch % every == 0 or epoch == self.epochs
