"""What every method is made of: its options, the task it is built for and the step it computes."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from ..errors import ConfigError, unknown
from ..groups import ClassGroups


@dataclass(frozen=True)
class Option:
    """A hyper-parameter of a method: its default (which fixes the type), what it means, and its range."""

    default: float | int
    help: str
    low: float = 0.0
    above: bool = False  # True: `low` itself is not allowed
    high: float = math.inf  # never allowed itself

    def check(self, name, value):
        """`value` as the option's type; raise ConfigError unless it lies in the range."""
        kind = type(self.default)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or (kind is int and value != int(value)):
            raise ConfigError(f"{name} = {value!r}: must be {'a whole number' if kind is int else 'a number'}")
        if not self.low <= value < self.high or (self.above and value == self.low):
            upper = f" and below {self.high:g}" if self.high < math.inf else ""
            raise ConfigError(f"{name} = {value}: must be {'above' if self.above else 'at least'} {self.low:g}{upper}")
        return kind(value)


class Task(NamedTuple):
    """What a method may know of the run. class_counts (C,): training images of each class; epochs: its length."""

    class_counts: Tensor
    groups: ClassGroups
    epochs: int


class Step(NamedTuple):
    """One batch on its way through a method.

    logits (B, C): the student's. labels (B,). epoch: 0-dim tensor, counted from 1. indices (B,): which training
    images. teacher_logits (B, C), or None where the method needs nothing of a teacher.
    """

    logits: Tensor
    labels: Tensor
    epoch: Tensor
    indices: Tensor
    teacher_logits: Tensor | None = None


class Method(nn.Module):
    """What a student is trained to minimise.

    A subclass lists its hyper-parameters as class attributes of type Option, says in `needs` what it wants of the
    teacher ("nothing" or "logits") and returns named terms, whose sum is the loss, from `forward(step)`. The first
    line of its docstring is its entry in the command line's help: what it is, and the paper.
    """

    needs = "nothing"

    def __init__(self, task, **options):
        super().__init__()
        for name, value in self.complete(options).items():
            setattr(self, name, value)
        self.task = task

    @classmethod
    def options(cls):
        """The options of this method: {name: Option}."""
        return {k: v for c in reversed(cls.__mro__) for k, v in vars(c).items() if isinstance(v, Option)}

    @classmethod
    def complete(cls, options):
        """`options` with defaults filled in and every value checked."""
        known = cls.options()
        for name in options:
            if name not in known:
                raise unknown(f"option of {cls.__name__}", name, known or ["(none)"])
        return {name: option.check(name, options.get(name, option.default)) for name, option in known.items()}

    def forward(self, step):
        """The loss as named terms: Step -> {name: 0-dim tensor}."""
        raise NotImplementedError
