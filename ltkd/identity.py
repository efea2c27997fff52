"""What tells a folder, a network or a class from another: short hashes of what is in it."""

import hashlib
import json
import os
import re
import sys
from functools import cached_property, partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType

import torch

PLAIN_ATTRIBUTES = (bool, int, float, str, tuple)
LIBRARIES = {"ltkd", "torch", "torchvision", "timm", "numpy", *sys.stdlib_module_names}
PARTS = {  # of what is not told by its repr: the attributes that make a difference
    FunctionType: ("__code__", "__defaults__", "__kwdefaults__", "__closure__"),
    CodeType: ("co_code", "co_names", "co_consts"),
    CellType: ("cell_contents",),
    MethodType: ("__func__",),
    property: ("fget", "fset", "fdel"),
    cached_property: ("func",),
    partial: ("func", "args", "keywords"),
    ModuleType: ("__name__",),
}


def digest(record, digits):
    """So many hexadecimal digits of a record of plain values."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:digits]


def folder_fingerprint(folder, contents=()):
    """Sixteen hexadecimal digits of a folder's files, their names and sizes, and of what is in the files `contents`."""
    walk = os.walk(folder, followlinks=True)
    found = (os.path.join(parent, name) for parent, _, names in walk for name in names)
    inside = len(os.path.join(folder, ""))
    rows = sorted([file[inside:].split(os.sep), os.stat(file).st_size] for file in found if os.path.isfile(file))
    rows = [["/".join(parts), size, 0] for parts, size in rows]
    return digest(["", rows, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in contents)], 16)


def tensors_fingerprint(tensors, text=""):
    """Eight hexadecimal digits of the values of tensors, and of a text."""
    found = hashlib.sha256(text.encode())
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:8]


def network_fingerprint(network):
    """Eight hexadecimal digits of a network's weights, of the plain attributes of its layers, of the functions that
    they hold, and of the code of those that are no library's (see `class_code`)."""
    layers = [
        (name, type(layer).__qualname__, [(k, v) for k, v in sorted(vars(layer).items()) if _plain(v)])
        for name, layer in network.named_modules()
    ]
    shape = repr([(name, kind, [(k, v) for k, v in plain if k != "training"]) for name, kind, plain in layers])
    code = [(type(layer), _functions(layer)) for layer in network.modules()]
    code = [(kind, functions) for kind, functions in code if functions or not _of_a_library(kind)]
    return tensors_fingerprint(network.state_dict().values(), shape + (json.dumps(_content(code, {})) if code else ""))


def class_code(cls):
    """Eight hexadecimal digits of what a class does: of its functions and attributes, of its bases, and of the
    functions and classes that it holds. None for a library's class, whose name tells enough.

    Not of its place (module, line), nor of what its functions find outside it. Code is known by its bytecode: another
    version of Python may give other digits.
    """
    return None if _of_a_library(cls) else digest(_content(cls, {}), 8)


def _plain(value):
    return isinstance(value, PLAIN_ATTRIBUTES)


def _functions(layer):
    return {k: v for k, v in sorted(vars(layer).items()) if callable(v) and not isinstance(v, type)}


def _of_a_library(value):
    return isinstance(value, type | FunctionType) and (value.__module__ or "").split(".")[0] in LIBRARIES


def _content(value, seen):
    """What of a value makes a difference, as nested lists of plain values. seen: {id: number} of the classes and
    functions that came before, since they may hold each other."""
    if _of_a_library(value) and not getattr(value, "__closure__", None):  # with one, a decorator may have made it
        return value.__qualname__
    if isinstance(value, type | FunctionType):
        if id(value) in seen:
            return seen[id(value)]
        seen[id(value)] = len(seen)
    if isinstance(value, torch.Tensor):
        return tensors_fingerprint([value])
    if (parts := _parts(value)) is not None:
        return [_content(part, seen) for part in parts]
    text = "" if type(value).__repr__ is object.__repr__ else re.sub(" at 0x[0-9a-fA-F]+", "", repr(value))
    return [_content(type(value), seen), text]


def _parts(value):
    """What a value is made of; None for one that its class and its repr tell."""
    if isinstance(value, tuple | list):
        return value
    if isinstance(value, set | frozenset):  # which has another order each time
        return sorted(value, key=repr)
    if isinstance(value, dict):
        return [*value.items()]
    if isinstance(value, type):
        return [*value.__bases__, *((k, v) for k, v in sorted(vars(value).items()) if _does_something(k, v))]
    names = next((names for kind, names in PARTS.items() if isinstance(value, kind)), None)
    if names is None and hasattr(value, "__wrapped__"):  # a class method, a function that remembers its answers
        names = ("__wrapped__",)
    return None if names is None else [getattr(value, name) for name in names]


def _does_something(name, value):
    """Whether an attribute of a class may: not its name, its documentation and the like."""
    return not name.startswith("__") or callable(getattr(value, "__func__", value))
