"""Short hashes that identify folders, networks and classes by their content."""

import copyreg
import dis
import hashlib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cached_property
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T")
LIBRARIES = {"ltkd", "torch", "torchvision", "timm", "numpy", "pandas", "scipy", "sklearn", "pybind11_builtins"}
PYTHON = os.path.join(os.path.dirname(os.__file__), "")
PLAIN = (type(None), bool, int, float, complex, str, bytes)  # their repr identifies them
PARTS: dict[type, tuple[str, ...]] = {  # types whose content pickle does not store: the attributes that identify them
    property: ("fget", "fset", "fdel"),
    cached_property: ("func",),
    MethodType: ("__func__", "__self__"),
    torch.jit.ScriptFunction: ("code",),
}
READS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}  # instructions that read a global name
STARS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
BOOKKEEPING = {*vars(nn.Module()), "_compiled_call_impl", "_is_torch_compile"}  # not attributes of the user's layer
HOOKS = sorted(name for name in vars(nn.Module()) if name.endswith("_hooks") and "state_dict" not in name)


def digest(record: object, digits: int) -> str:
    """The first hexadecimal digits of the SHA-256 hash of a record that JSON can hold. digits: their number."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:digits]


def tensors_fingerprint(tensors: Iterable[torch.Tensor], text: str = "") -> str:
    """Eight hexadecimal digits: a hash of the values of tensors, and of a text."""
    found = hashlib.sha256(text.encode())
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:8]


def network_fingerprint(network: nn.Module) -> str:
    """Eight hexadecimal digits: a hash of a network in its present state.

    It depends on the parameters and their `requires_grad`, on buffers, hooks and all other attributes, on layers whose
    mode differs from the layer around them (such as BatchNorm in evaluation mode), and on the code of the user's own
    layers (see `class_code`). It does not depend on the mode of the whole network or on its wrappers (see `unwrapped`).
    Values that a layer stores from its last batch are attributes, so they count.
    """
    return digest(_record(network), 8)


def unwrapped(value: T) -> T:
    """The network or function behind torch.compile, DataParallel or DistributedDataParallel; any other value itself."""
    inner: Any = value
    if isinstance(value, nn.DataParallel | nn.parallel.DistributedDataParallel):
        inner = value.module
    elif isinstance(value, nn.Module | FunctionType):
        inner = getattr(value, "_orig_mod", getattr(value, "_torchdynamo_orig_callable", value))
    return value if inner is value else unwrapped(inner)


def class_code(cls: type) -> str | None:
    """Eight hexadecimal digits: a hash of the code of a class; None if a library defines the class and all its bases.

    It depends on attributes, methods and bases, and on everything that they use: decorators, closures, default values,
    and global functions, classes, constants and modules, with the globals that those use. Other objects are hashed as
    pickle stores them, or by their attributes if they cannot be pickled. The present values count: the hash changes
    when a class changes its own attributes or a global list.

    Functions are hashed by their bytecode. Comments, docstrings, line numbers and the file's place do not count, and an
    edited file counts after it is imported again. Another version of Python may give another hash. The hash does not
    see names that are looked up as strings, files that a function reads, and globals that an installed package uses.
    """
    return None if of_a_library(cls) else digest(_record(cls), 8)


def of_a_library(value: object) -> bool:
    """True for a function, class or module of Python or of LIBRARIES: its name identifies it. Of a class, all bases
    must be from there too."""
    if isinstance(value, type):
        return all(_in_a_library(cls.__module__) for cls in value.__mro__)
    if isinstance(value, FunctionType):
        return _in_a_library(value.__globals__.get("__name__"))
    return isinstance(value, ModuleType) and _in_a_library(value.__name__)


def _in_a_library(module: object) -> bool:
    name = str(module).split(".")[0]
    if name not in sys.stdlib_module_names:
        return name in LIBRARIES
    file = getattr(
        sys.modules.get(name), "__file__", None
    )  # the user may have a module with the name of one of Python's, such as code.py
    return file is None or file.startswith(PYTHON)


def _record(root: object) -> list[Any]:
    """`root` and all objects that it reaches, one row per object: its type, then its parts.

    An entry is the repr of a plain value, the name of a library's function, class or module, or the number of a row.
    """
    objects: list[Any] = []
    numbers: dict[int, int] = {}

    def entry(value: Any) -> str | int:
        value = unwrapped(value)
        if type(value) in PLAIN:
            return repr(value) if type(value) is not bytes else hashlib.sha256(value).hexdigest()
        if of_a_library(value) and not _closure(value):  # a decorated function has a closure
            return value.__name__ if isinstance(value, ModuleType) else f"{value.__module__}.{value.__qualname__}"
        if id(value) not in numbers or isinstance(value, tuple | frozenset):  # Python may store equal ones once
            numbers[id(value)] = len(objects)
            objects.append(value)
        return numbers[id(value)]

    return [
        entry(root),
        *([entry(type(each)), *map(entry, _parts(each))] for each in objects),
    ]  # `entry` extends `objects` meanwhile


def _parts(value: Any) -> Iterable[Any]:
    """The values that identify an object, beside its type."""
    library = of_a_library(type(value))
    if isinstance(value, type):
        return [*value.__bases__, *_attributes(value)]
    if isinstance(value, ModuleType):
        return _attributes(value)
    if isinstance(value, FunctionType):
        return [value.__code__.co_qualname, *_closure(value)] if of_a_library(value) else _function(value)
    if isinstance(value, nn.Module):
        return _layer(value)
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), *value.shape, tensors_fingerprint([value]), *_tensor_hooks(value)]
    if isinstance(value, set | frozenset):  # their order differs between processes
        return sorted(value, key=lambda each: json.dumps(_record(each)))
    if type(value) is tuple:
        return value
    names: Iterable[str] = PARTS.get(type(value), ("__wrapped__",) if library and hasattr(value, "__wrapped__") else ())
    if library and is_dataclass(value):  # such as an Option; its help does not count
        names = [field.name for field in fields(value) if field.repr]
    return [getattr(value, name) for name in names] or _pickled(value)


def _pickled(value: Any) -> list[Any]:
    """The parts of an object that pickle would store, or its attributes if it cannot be pickled."""
    try:
        parts = copyreg.dispatch_table.get(type(value), lambda value: value.__reduce_ex__(4))(value)
        return [parts] if isinstance(parts, str) else [*parts[:3], *map(tuple, filter(None, parts[3:5]))]
    except Exception:  # locks, open files and generators raise many types of errors here
        return [getattr(value, "__dict__", None)]


def _function(function: FunctionType) -> list[Any]:
    """The bytecode of a function and of the functions in it, its defaults, its closure, and the globals that it reads.

    Bytecode does not contain comments, docstrings and line numbers.
    """
    codes, space = [function.__code__], function.__globals__
    read: dict[str, Any] = {}
    parts: list[Any] = [function.__defaults__, function.__kwdefaults__, *_closure(function)]
    for code in codes:
        codes += [const for const in code.co_consts if isinstance(const, CodeType)]
        parts += [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount]
        parts += [code.co_flags & STARS, code.co_exceptiontable]
        steps: list[Any] = [*dis.get_instructions(code)]
        for i, step in enumerate(steps):
            const = step.opcode in dis.hasconst
            value = code.co_consts[step.arg] if const else step.argval
            parts += [step.opname, None if const else step.arg, None if isinstance(value, CodeType) else value]
            if step.opname in READS:
                read[value] = space.get(value)
            elif step.opname == "IMPORT_NAME":
                with suppress(ImportError):
                    name = steps[i - 2].argval * "." + value  # with the dots of a relative import
                    read[name] = importlib.import_module(name, space.get("__package__"))
    words = {word for code in codes for word in code.co_names}
    installed = "site-packages" in function.__code__.co_filename
    return [*parts, *(_named(words, read[name]) for name in sorted(read) if not installed)]


def _named(words: set[str], value: Any) -> Any:
    """A global value; of the user's own module, only the attributes whose names are in `words`."""
    if not isinstance(value, ModuleType) or of_a_library(value):
        return value
    return tuple((word, _named(words - {word}, vars(value)[word])) for word in sorted(words & vars(value).keys()))


def _closure(value: object) -> list[Any]:
    """The values of the variables that a function uses from the functions around it."""
    cells = (isinstance(value, FunctionType) and value.__closure__) or ()
    return [None if cell == CellType() else cell.cell_contents for cell in cells]


def _layer(layer: nn.Module) -> list[Any]:
    """The parts of a layer: its own tensors, hooks, attributes and inner layers."""
    own: dict[str, Any] = {"recurse": False, "remove_duplicate": False}
    parameters = [(name, each, each.requires_grad) for name, each in layer.named_parameters(**own)]
    hooks = [
        (name, *vars(layer)[name].values()) for name in HOOKS if vars(layer).get(name)
    ]  # the keys are counters, which do not count
    attributes = [item for item in sorted(vars(layer).items()) if item[0] not in BOOKKEEPING]
    inner = [(name, each.training == layer.training, each) for name, each in layer._modules.items() if each is not None]
    return [parameters, [*layer.named_buffers(**own)], hooks, attributes, inner, getattr(layer, "code", None)]


def _tensor_hooks(tensor: torch.Tensor) -> list[Any]:
    """The functions that a tensor calls with its gradient."""
    kept = (getattr(tensor, name, None) or {} for name in ("_backward_hooks", "_post_accumulate_grad_hooks"))
    return [hook for hooks in kept for hook in hooks.values()]


def _attributes(value: type | ModuleType) -> list[tuple[str, Any]]:
    """The attributes of a class or module that can change its behaviour: not its name or docstring."""
    kept = [item for item in sorted(vars(value).items()) if not item[0].startswith("__annotate")]  # Python 3.14
    return [item for item in kept if not item[0].startswith("__") or callable(getattr(item[1], "__func__", item[1]))]
