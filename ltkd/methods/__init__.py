"""Methods by name. A new method is one class and its row in METHODS; nothing else knows its name."""

from functools import lru_cache

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

METHODS = {
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


def method_class(name):
    """The class of a method, a key of METHODS."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def name_of(cls):
    """The name of a method's class in METHODS."""
    for name, other in METHODS.items():
        if other is cls:
            return name
    raise ConfigError(
        f"{cls.__name__}, from whose end another method goes on, is not in METHODS: register it, too, under a name of "
        f"its own"
    )


def revisions(cls):
    """The revisions of a method and of those before it: its teacher's, and those that train the student first."""
    teachers = [CrossEntropy.revision] if cls.needs != "nothing" else []
    return [cls.revision, *teachers, *(revisions(cls.parent) if cls.parent else ())]


def option_names():
    """Every option of any method: {option: {method: Option}}."""
    return _option_names(tuple(METHODS.items()))


@lru_cache(maxsize=1)  # of the methods there are now: a grid asks for every config
def _option_names(known):
    found = {}
    for name, method in known:
        for option_name, option in method.options().items():
            found.setdefault(option_name, {})[name] = option
    return found
