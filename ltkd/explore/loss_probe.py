"""Any method's loss on one batch of logits at hand: its terms, its value on each group's images, and how hard it pulls
on them."""

import math
from typing import NamedTuple

import torch

from ..errors import ConfigError
from ..methods import METHODS, Step, Task, check_terms, method_class
from . import batch_terms


class Look(NamedTuple):
    """What one batch shows of a loss.

    terms: {term: its part of the loss}; alone: {group: the loss of its images as a batch of their own}; gradient:
    {group: mean length of the gradient on an image's logits}; couples: whether the loss is more than the mean of its
    images' losses, so that `alone` does not add up to it (LTKD's factors are the whole batch's).
    """

    terms: dict
    alone: dict
    gradient: dict
    couples: bool


def look(method, student_logits, teacher_logits, labels, groups):
    """A method's loss on one batch: Method, (B, C), (B, C), (B,) -> Look."""
    student, teacher, labels = (torch.as_tensor(x) for x in (student_logits, teacher_logits, labels))

    def terms_of(logits, rows=slice(None)):
        terms = method(Step.of_logits(logits[rows], labels[rows], teacher[rows]))
        check_terms(method, terms)
        return terms

    terms = {name: float(term) for name, term in terms_of(student).items()}
    gradient = batch_terms.gradient_by_group(lambda logits: sum(terms_of(logits).values()), student, labels, groups)
    members = {name: groups.index[labels] == g for g, name in enumerate(groups.names)}
    alone = {
        name: float(sum(terms_of(student, rows).values())) if rows.any() else float("nan")
        for name, rows in members.items()
    }
    mean_of_groups = sum(alone[name] * float(rows.float().mean()) for name, rows in members.items() if rows.any())
    couples = not math.isclose(mean_of_groups, sum(terms.values()), rel_tol=1e-4)
    return Look(terms, alone, gradient, couples)


def make(name, class_counts, n_groups, **options):
    """The method called `name` with its terms at full strength, as late in a training."""
    cls = method_class(name)
    in_force = {key: 0.0 for key, option in cls.options().items() if option.of_time}
    return cls(Task.of_counts(class_counts, n_groups), **in_force | options)


def methods_on_logits():
    """The names of the methods of one stage whose loss needs logits alone."""
    return [name for name in METHODS if why_not(name) is None]


def why_not(name):
    """The error that keeps a method's loss from being computed from logits alone; None where it can be."""
    cls = method_class(name)
    if cls.needs == "features":
        return ConfigError("it needs features")
    if cls.parent is not None:
        return ConfigError("it goes on from another method's run")
    # Whether the loss reads more than logits shows only when it is computed: here on two images of three classes.
    logits, labels = torch.zeros(2, 3, requires_grad=True), torch.tensor([0, 2])
    try:
        method = cls(Task.of_counts([3, 2, 1]))
        terms = method(Step.of_logits(logits, labels, torch.ones(2, 3)))
        check_terms(method, terms)
    except Exception as error:  # of a reader's own method, too: `loss_microscope` says it
        return error
    wrong = [name for name, term in terms.items() if not torch.isfinite(term)]
    return ConfigError(f"its term {wrong[0]!r} is not finite where all logits are equal") if wrong else None


def options_of(name):
    """The options of a method that change its loss on one batch: {option: Option}."""
    return {key: option for key, option in method_class(name).options().items() if not option.of_time}
