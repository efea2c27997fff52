"""Methods by name. A new method is one class and its row in METHODS; nothing else knows its name."""

from ..errors import unknown
from .base import TEACHER, Batch, Method, Option, Scan, Step, Task, TeacherSpec
from .bbn import BBN
from .distillation import BKD, DIST, DKD, KD, LTKD, CrossEntropy, Distillation
from .feature_maps import CATKD, FeatureDistillation, FitNet, ReviewKD
from .lfme import LFME
from .longtail import LDAM, BalancedSoftmax, ClassBalanced, ClassBalancedFocal, Focal, LogitAdjusted
from .oltr import OLTR
from .retraining import CRT, BKDThenCRT

__all__ = [
    "METHODS",
    "TEACHER",
    "Batch",
    "Distillation",
    "FeatureDistillation",
    "Method",
    "Option",
    "Scan",
    "Step",
    "Task",
    "TeacherSpec",
    "method_class",
    "name_of",
    "option_names",
]

METHODS = {
    "ce": CrossEntropy,
    "kd": KD,
    "dkd": DKD,
    "dist": DIST,
    "fitnet": FitNet,
    "reviewkd": ReviewKD,
    "catkd": CATKD,
    "bkd": BKD,
    "ltkd": LTKD,
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
    return next(name for name, other in METHODS.items() if other is cls)


def option_names():
    """Every option of any method: {option: {method: Option}}."""
    found = {}
    for name, method in METHODS.items():
        for option_name, option in method.options().items():
            found.setdefault(option_name, {})[name] = option
    return found
