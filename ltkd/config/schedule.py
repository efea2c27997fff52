"""The learning rate over the epochs."""

import math
from typing import NamedTuple

SCHEDULES = ("steps", "cosine")


class Schedule(NamedTuple):
    """The learning rate of each of `epochs` epochs: a linear warm-up over `warmup` of them, then falls by `decay` after
    the fractions `milestones` of them (kind 'steps'), or half a cosine down to nothing (kind 'cosine')."""

    kind: str
    epochs: int
    lr: float
    warmup: float = 0.0
    milestones: tuple[float, ...] = ()
    decay: float = 0.1

    def rate(self, epoch):
        """The learning rate of an epoch, counted from 1."""
        if epoch < (warmup := self.warmup * self.epochs):
            return self.lr * epoch / warmup
        if self.kind == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / self.epochs))
        # The first epoch has the full rate however short the run is.
        falls = sum(epoch > max(1, round(fraction * self.epochs, 6)) for fraction in self.milestones)
        return self.lr * self.decay**falls

    def tests_after(self, epoch, every):
        """Whether the student is tested after this epoch: every so many, and always once the learning rate is low."""
        low_from = 0.8 if self.kind == "cosine" else min(self.milestones, default=1.0)
        return epoch > low_from * self.epochs or epoch % every == 0 or epoch == self.epochs
