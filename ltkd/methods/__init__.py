"""Methods by name. To add a method, write one class and add its row to METHODS; no other code names it."""

from typing import Any

from ..errors import ConfigError, unknown
from .base import TEACHER, Answer, Batch, Method, Option, Scan, Step, Task, TeacherSpec, check_terms
from .bbn import BBN
from .crt import CRT, BKDThenCRT
from .distillation import BKD, DIST, DKD, KD, LTKD, CrossEntropy, Distillation
from .features import CATKD, FeatureDistillation, FitNet, ReviewKD
from .lfme import LFME
from .long_tailed import LDAM, BalancedSoftmax, ClassBalanced, ClassBalancedFocal, Focal, LogitAdjusted
from .oltr import OLTR

__all__ = [
    "METHODS",
    "TEACHER",
    "Answer",
    "Batch",
    "Distillation",
    "FeatureDistillation",
    "Method",
    "Option",
    "Scan",
    "Step",
    "Task",
    "TeacherSpec",
    "check_terms",
    "method_class",
    "name_of",
    "option_names",
    "revisions",
]

METHODS: dict[str, type[Method]] = {
    "ce": CrossEntropy,
    "kd": KD,
    "bkd": BKD,
    "ltkd": LTKD,
    "dkd": DKD,
    "dist": DIST,
    "reviewkd": ReviewKD,
    "catkd": CATKD,
    "fitnet": FitNet,
    "cb": ClassBalanced,
    "focal": Focal,
    "cb-focal": ClassBalancedFocal,
    "ldam-drw": LDAM,
    "logit-adjusted": LogitAdjusted,
    "balanced-softmax": BalancedSoftmax,
    "crt": CRT,
    "bkd+crt": BKDThenCRT,
    "bbn": BBN,
    "lfme": LFME,
    "oltr": OLTR,
}


def method_class(name: str) -> type[Method]:
    """The class of a method, by its key in METHODS. Raises ConfigError for an unknown name."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def name_of(cls: type[Method]) -> str:
    """The key of a class in METHODS. Raises ConfigError if it has none."""
    for name, other in METHODS.items():
        if other is cls:
            return name
    raise ConfigError(
        f"{cls.__name__}, the parent of another method, is not in METHODS: register it under a name of its own"
    )


def revisions(cls: type[Method]) -> list[int]:
    """The revisions that a method's results depend on: its own, that of its teacher's method, and its parent's."""
    teachers = [CrossEntropy.revision] if cls.needs != "nothing" else []
    return [cls.revision, *teachers, *(revisions(cls.parent) if cls.parent else ())]


def option_names() -> dict[str, dict[str, Option[Any]]]:
    """The options of all methods: {option: {method: Option}}."""
    found: dict[str, dict[str, Option[Any]]] = {}
    for method, cls in METHODS.items():
        for name, option in cls.options().items():
            found.setdefault(name, {})[method] = option
    return found
