"""What tells a folder, a network or a class from another: short hashes of what is in it."""

import hashlib
import inspect
import json
import os
import re
import sys
from functools import cached_property, partial, partialmethod
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from weakref import WeakKeyDictionary, ref

import numpy as np
import torch
from torch import nn

LIBRARIES = {"ltkd", "torch", "torchvision", "timm", "numpy", "pandas", "pybind11_builtins"}  # and Python's own
PYTHON = os.path.join(os.path.dirname(os.__file__), "")
PLAIN = (type(None), bool, int, float, complex, str, bytes)  # their repr identifies them
PARTS = {  # types whose repr does not identify them: the attributes that do
    FunctionType: ("__code__", "__defaults__", "__kwdefaults__", "__closure__"),
    CodeType: (
        *("co_code", "co_names", "co_consts", "co_varnames", "co_exceptiontable"),
        *("co_argcount", "co_posonlyargcount", "co_kwonlyargcount"),
    ),
    CellType: ("cell_contents",),
    MethodType: ("__func__", "__self__"),
    property: ("fget", "fset", "fdel"),
    cached_property: ("func",),
    partial: ("func", "args", "keywords"),
    partialmethod: ("func", "args", "keywords"),
    ModuleType: ("__name__",),
}
STARS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS  # flags that PARTS does not cover
BOOKKEEPING = {
    *vars(nn.Module()),
    "_compiled_call_impl",
    "_is_torch_compile",
}  # attributes of a layer that `_layer` reads in another way
HOOKS = sorted(name for name in vars(nn.Module()) if name.endswith("_hooks") and "state_dict" not in name)

_remembered = WeakKeyDictionary()  # {class: the first result of `_inside` for it}


def digest(record, digits):
    """So many hexadecimal digits of a record of plain values."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:digits]


def folder_fingerprint(folder, contents=()):
    """Sixteen hexadecimal digits of a folder's files, their names and sizes, and of what is in the files `contents`."""
    walk = os.walk(folder, followlinks=True)
    found = (os.path.join(parent, name) for parent, _, names in walk for name in names)
    inside = len(os.path.join(folder, ""))
    rows = sorted([file[inside:].split(os.sep), os.stat(file).st_size] for file in found if os.path.isfile(file))
    rows = [["/".join(parts), size] for parts, size in rows]
    return digest([rows, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in contents)], 16)


def tensors_fingerprint(tensors, text=""):
    """Eight hexadecimal digits of the values of tensors, and of a text."""
    found = hashlib.sha256(text.encode())
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:8]


def network_fingerprint(network):
    """Eight hexadecimal digits of a network as it is now: of its layers' weights, buffers, attributes and hooks, and of
    the code of those that are no library's (see `class_code`). Compiled or not, training or not, it is the same.
    What a layer or hook of one's own keeps of the last batch is an attribute as well."""
    seen = {}
    content = _content(network, seen)
    return digest([content, _classes(_classes_in(seen), {})], 8)


def class_code(cls):
    """Eight hexadecimal digits of what a class does: of its functions and attributes, of its bases, and of the
    functions and classes that it holds. None for a library's class, whose name tells enough.

    Covered is what can be reached from the class: attributes, bases, decorators, closures, default values, and the
    state of objects found there (a library's go by their repr). Not covered is what its functions find outside it by
    name, in their module or notebook: functions that they call, constants, helper classes; to have those count, make
    them attributes of the class. Nor is its place (module, line). A class is what it was when it was first asked
    about: what is put into it later, such as what it notes down while it trains, does not count. Code is known by its
    bytecode: another version of Python may give other digits.
    """
    return None if _of_a_library(cls) else digest(_classes([cls], _remembered), 8)


def _classes(classes, known):
    """The contents of classes, of the classes that they mention, and so on. known: {class: content}, filled here."""
    classes, contents = [*classes], []
    for cls in classes:  # the loop itself appends classes
        if cls not in known:
            known[cls] = _inside(cls)
        content, mentioned = known[cls]
        mentioned = [other for held in mentioned if (other := held()) is not None]
        classes += [other for other in mentioned if other not in classes]
        contents.append([content, [classes.index(other) for other in mentioned]])
    return contents


def _inside(cls):
    """The content of a class, and weak references to the other classes that it mentions (without their content)."""
    seen = {id(cls): (0, cls)}
    attributes = [(k, v) for k, v in sorted(vars(cls).items()) if _does_something(k, v)]
    content = [_content(part, seen) for part in (type(cls), *cls.__bases__, *attributes)]
    return content, [ref(other) for other in _classes_in(seen)]


def _classes_in(seen):
    return [value for _, value in seen.values() if isinstance(value, type)]


def _does_something(name, value):
    """True if an attribute can change what the class does: not its name, its docstring and the like."""
    return not name.startswith("__") or callable(getattr(value, "__func__", value))


def _of_a_library(value):
    """True if a library defines the function, or the class and all its bases: then its name identifies it."""
    if isinstance(value, type):
        return all(_in_a_library(cls) for cls in value.__mro__)
    return isinstance(value, FunctionType) and _in_a_library(value)


def _in_a_library(value):
    name = str(value.__module__).split(".")[0]
    if name not in sys.stdlib_module_names:
        return name in LIBRARIES
    file = getattr(sys.modules.get(name), "__file__", None)  # a module of one's own may be called code.py
    return file is None or file.startswith(PYTHON)


def _content(value, seen):
    """The content of a value as nested lists of plain values. seen: {id: (number, value)} of the values met before, so
    that a cycle ends. It keeps each value alive, so that no other value can get the same id."""
    if isinstance(value, nn.Module):
        value = getattr(value, "_orig_mod", value)  # unwrap a compiled network
    if _of_a_library(value) and not getattr(value, "__closure__", None):  # a decorated function has a closure
        return f"{value.__module__}.{value.__qualname__}"
    if not isinstance(value, (*PLAIN, tuple, frozenset)):  # Python may share one object for two equal constants
        if id(value) in seen:
            return seen[id(value)][0]
        seen[id(value)] = (len(seen), value)
    if isinstance(value, type):  # `_classes` adds its content, once
        return [value.__name__, len(seen) - 1]
    known = _of_a_library(type(value))
    parts = _parts(value, known, seen)
    if not known and not isinstance(value, nn.Module):
        parts = [*parts, *_state(value)]
    silent = type(value).__repr__ is object.__repr__ or (parts and not isinstance(value, PLAIN))
    text = "" if silent else re.sub(" at 0x[0-9a-fA-F]+", "", repr(value))
    return [_content(type(value), seen), text, *(_content(part, seen) for part in parts)]


def _parts(value, known, seen):
    """The parts of a value; none if its class and its repr identify it. known: whether a library defines the class."""
    if isinstance(value, nn.Module):
        return _layer(value)
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), tuple(value.shape), tensors_fingerprint([value])]
    if isinstance(value, np.ndarray) or (known and hasattr(value, "__array__")):  # a number of numpy's, a data frame
        array = np.asarray(value)
        return [str(array.dtype), array.shape, array.ravel().tolist() if array.dtype.hasobject else array.tobytes()]
    if isinstance(value, set | frozenset):  # its order differs from process to process
        return sorted(value, key=lambda part: json.dumps(_content(part, {**seen})))
    if isinstance(value, tuple | list | dict):
        return [*(value.items() if isinstance(value, dict) else value)]
    names = next((names for kind, names in PARTS.items() if isinstance(value, kind)), ())
    if not names and known and hasattr(value, "__wrapped__"):  # a class method, a function that remembers its answers
        names = ("__wrapped__",)
    stars = [value.co_flags & STARS] if isinstance(value, CodeType) else []
    return [_part(value, name) for name in names] + stars


def _part(value, name):
    try:
        return getattr(value, name)
    except ValueError:  # an empty closure cell
        return None


def _layer(layer):
    """The parts of a layer: weights, buffers, hooks, other attributes, extra state, and its own layers."""
    own = {"recurse": False, "remove_duplicate": False}
    tensors = [dict(layer.named_parameters(**own)), dict(layer.named_buffers(**own))]
    hooks = [(name, *vars(layer)[name].values()) for name in HOOKS if vars(layer).get(name)]  # their keys are counters
    extra = [layer.get_extra_state()] if type(layer).get_extra_state is not nn.Module.get_extra_state else []
    return [*tensors, hooks, _kept(vars(layer), BOOKKEEPING), extra, dict(layer._modules.items())]


def _state(value):
    """The attributes of an instance, those in slots too."""
    held = object.__getstate__(value)  # a dict, a pair (dict, slots), or None
    return [item for each in (held if isinstance(held, tuple) else (held,)) for item in _kept(each or {})]


def _kept(attributes, without=()):
    return [(name, value) for name, value in sorted(attributes.items()) if name not in without]
