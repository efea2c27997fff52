"""Methods by name. A new method is one class and its row in METHODS; nothing else knows its name."""

from ..errors import unknown
from .base import Method, Option, Step, Task
from .distillation import BKD, KD, LTKD, CrossEntropy, Distillation

__all__ = ["METHODS", "Distillation", "Method", "Option", "Step", "Task", "method_class", "option_names"]

METHODS = {
    "ce": CrossEntropy,
    "kd": KD,
    "bkd": BKD,
    "ltkd": LTKD,
}


def method_class(name):
    """The class of a method, a key of METHODS."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def option_names():
    """Every option of any method: {option: {method: Option}}."""
    found = {}
    for name, method in METHODS.items():
        for option_name, option in method.options().items():
            found.setdefault(option_name, {})[name] = option
    return found
