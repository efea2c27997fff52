"""Any method's loss on one batch of logits: its terms, and its value and gradient on the images of each group."""

import math
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..errors import ConfigError
from ..groups import ClassGroups
from ..methods import METHODS, Method, Option, Step, Task, check_terms, method_class
from . import batch_terms


class Look(NamedTuple):
    """A method's loss on one batch.

    terms: {term: its part of the loss}; alone: {group: the loss of its images as a separate batch}; gradient: {group:
    mean norm of the loss's gradient in an image's logits}; couples: True if the loss is not the mean of the images'
    losses, as in LTKD, where the scaling factors depend on the whole batch. Then `alone` does not add up to the loss.
    """

    terms: dict[str, float]
    alone: dict[str, float]
    gradient: dict[str, float]
    couples: bool


def look(
    method: Method, student_logits: ArrayLike, teacher_logits: ArrayLike, labels: ArrayLike, groups: ClassGroups
) -> Look:
    """A method's loss on one batch. student_logits, teacher_logits (B, C), labels (B,)."""
    student, teacher, y = (torch.as_tensor(x) for x in (student_logits, teacher_logits, labels))

    def terms_of(logits: Tensor, rows: slice | Tensor = slice(None)) -> dict[str, Tensor]:
        terms = method(Step.of_logits(logits[rows], y[rows], teacher[rows]))
        check_terms(method, terms)
        return terms

    def loss(logits: Tensor, rows: slice | Tensor = slice(None)) -> Tensor:
        return sum(terms_of(logits, rows).values(), torch.zeros(()))

    terms = {name: float(term) for name, term in terms_of(student).items()}
    gradient = batch_terms.gradient_by_group(loss, student, y, groups)
    members = {name: groups.index[y] == g for g, name in enumerate(groups.names)}
    alone = {name: float(loss(student, rows)) if rows.any() else float("nan") for name, rows in members.items()}
    mean_of_groups = sum(alone[name] * float(rows.float().mean()) for name, rows in members.items() if rows.any())
    couples = not math.isclose(mean_of_groups, sum(terms.values()), rel_tol=1e-4)
    return Look(terms, alone, gradient, couples)


def make(name: str, class_counts: ArrayLike, n_groups: int, **options: Any) -> Method:
    """The method called `name`, with every term in force, as at the end of a training.

    class_counts (C,): training images of each class. Raises ConfigError for an unknown name or option.
    """
    cls = method_class(name)
    in_force = {key: 0.0 for key, option in cls.options().items() if option.of_time}
    return cls(Task.of_counts(class_counts, n_groups), **in_force | options)


def methods_on_logits() -> list[str]:
    """The names of the methods whose loss `look` can compute: one stage, logits only."""
    return [name for name in METHODS if why_not(name) is None]


def why_not(name: str) -> Exception | None:
    """The reason why `look` cannot compute a method's loss; None if it can."""
    cls = method_class(name)
    if cls.needs == "features":
        return ConfigError("it needs features")
    if cls.parent is not None:
        return ConfigError("it continues the run of another method")
    # Only computing the loss shows whether it reads more than logits: here on two images of three classes.
    logits, labels = torch.zeros(2, 3, requires_grad=True), torch.tensor([0, 2])
    try:
        method = cls(Task.of_counts([3, 2, 1]))
        terms = method(Step.of_logits(logits, labels, torch.ones(2, 3)))
        check_terms(method, terms)
    except Exception as error:  # of any kind, from a user's own method: `loss_microscope` shows it
        return error
    wrong = [name for name, term in terms.items() if not torch.isfinite(term)]
    return ConfigError(f"its term {wrong[0]!r} is not finite when all logits are equal") if wrong else None


def options_of(name: str) -> dict[str, Option]:
    """The options of a method that change its loss on one batch: {name: Option}."""
    return {key: option for key, option in method_class(name).options().items() if not option.of_time}
