"""Methods by name. A new method is one class and its row in METHODS; nothing else knows its name."""

import hashlib
from types import CodeType

from ..errors import unknown
from .base import TEACHER, Answer, Batch, Method, Option, Scan, Step, Task, TeacherSpec, check_terms
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
    "code_of",
    "method_class",
    "name_of",
    "option_names",
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
    return next(name for name, other in METHODS.items() if other is cls)


def option_names():
    """Every option of any method: {option: {method: Option}}."""
    found = {}
    for name, method in METHODS.items():
        for option_name, option in method.options().items():
            found.setdefault(option_name, {})[name] = option
    return found


def code_of(cls):
    """Eight hexadecimal digits of the code of a class that is not this package's; None for its own, whose versions are
    those of the package."""
    own = [c for c in cls.__mro__ if not c.__module__.startswith(("ltkd.", "torch.", "builtins"))]
    if not own:
        return None
    parts = [(name, _content(name, value)) for c in own for name, value in sorted(vars(c).items(), key=lambda i: i[0])]
    return hashlib.sha256(repr([part for part in parts if part[1] is not None]).encode()).hexdigest()[:8]


def _content(name, value):
    """What of a class's attribute makes a difference; None for its name, its documentation and the like."""
    function = getattr(value, "__func__", value)
    if hasattr(function, "__code__"):
        return _instructions(function.__code__)
    plain = isinstance(value, bool | int | float | str | tuple | list | dict) and not name.startswith("__")
    return repr(value) if plain else None


def _instructions(code):
    return code.co_code.hex(), code.co_names, [_constant(c) for c in code.co_consts]


def _constant(value):
    if isinstance(value, CodeType):
        return _instructions(value)
    return repr(sorted(value, key=repr) if isinstance(value, frozenset) else value)  # a set has another order each time
