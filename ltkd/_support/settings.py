"""Setting: a value that a user may set, with its default, its meaning and its check.

The fields of RunConfig, the options of the methods, the parameters of a notebook and the options of the command line
are all Settings, so one rule holds for all of them.
"""

import math
import os
from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import cached_property
from types import NoneType, UnionType
from typing import Any, Generic, Self, TypeVar, cast, get_args, get_origin, overload

import numpy as np
from torch import Tensor

from ..errors import ConfigError, shown, unknown

T = TypeVar("T")
KINDS: dict[type, tuple[Any, str]] = {  # type of a setting: the types that become it, and what it is in words
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    bool: (bool, "true or false"),
    str: (str, "text"),
    dict: (dict, "a dict"),
    tuple: ((list, tuple, range), "a list"),
}
WHOLE = 2**63 - 1  # the largest whole number that every file and library here can hold
SMALL, LARGE = 1e-30, 1e30  # float32, in which runs are computed, has no room for the products of other numbers
SIZES = {int: "below 2**63", float: f"0 or from {SMALL:g} to {LARGE:g} in size"}  # said only where it is the reason


@dataclass(frozen=True)
class Setting(Generic[T]):
    """A value that a user may set.

    default: the value without the user's choice; its type is the type of the setting, unless `kind` states it. help:
    what the setting means, in one line. low, high: the smallest and the largest number allowed; also of the entries of
    a list. above, below: True if `low`, or `high`, is itself not allowed. choices: the texts allowed; none: any text.
    kind: the type, such as `int | None` or `tuple[float, ...]`. ConfigError if the default is not allowed.

    As an attribute of a class, a Setting stands for the value that each instance has under the same name.
    """

    default: T
    help: str = field(default="", repr=False)  # other words do not make another method, see fingerprint.py
    _: KW_ONLY
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    choices: Collection[str] = ()
    kind: Any = None

    def __post_init__(self) -> None:
        known = [kind in KINDS and (entry is not None or kind is not tuple) for kind, entry in self._kinds]
        if not known or not all(known):
            raise ConfigError(f"default = {shown(self.default)}: state its type, such as kind=tuple[int, ...]")
        self.check("default", self.default)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise AttributeError("an object has its settings after the __init__ of its class")

    def check(self, name: str, value: object) -> T:
        """`value` as the type of the setting, called `name`. Values of numpy and torch become Python's, a path a text,
        a list or a range a tuple, a whole number a float. ConfigError if the value is not allowed."""
        plain = _plain(value)
        if plain is None and NoneType in get_args(self.kind):
            return cast(T, None)
        for kind, entry in self._kinds:
            if self._fits(kind, entry, plain):
                return cast(T, _without_sign(kind(plain)) if entry is None else tuple(map(entry, plain)))
        entries = plain if isinstance(plain, list | tuple) else [plain]
        for word in entries:
            if self.choices and isinstance(word, str) and word not in self.choices:
                raise unknown(name, word, self.choices)
        allowed = " or ".join(self._words(*kind) for kind in self._kinds)
        finite = [n for n in entries if type(n) in SIZES and abs(n) < math.inf]
        extreme = {type(n) for n in finite if self._in_range(n) and not _computable(type(n), n)}
        sizes = "".join(f", {SIZES[kind]}" for kind in extreme)
        raise ConfigError(f"{name} = {shown(value)}: must be {allowed}{sizes}")

    def parse(self, text: str) -> Any:
        """The value that a text of the command line stands for; entries of a list are separated by commas. A text that
        stands for no value is returned as it is, and `check` refuses it."""
        for kind, entry in sorted(self._kinds, key=lambda kind: kind[0] is str):  # any text is a str
            try:
                return _parsed(kind, text) if entry is None else tuple(_parsed(entry, part) for part in text.split(","))
            except ValueError:
                continue
        return text

    @cached_property
    def _kinds(self) -> list[tuple[type, type | None]]:
        """The types of a value, without None, and the types of their entries: `tuple[int, ...] | None` ->
        [(tuple, int)]."""
        given = self.kind or type(self.default)
        kinds = [k for k in (get_args(given) if isinstance(given, UnionType) else [given]) if k is not NoneType]
        return [(get_origin(k) or k, get_args(k)[0] if get_origin(k) is tuple else None) for k in kinds]

    def _fits(self, kind: type, entry: type | None, value: Any) -> bool:
        if not isinstance(value, KINDS[kind][0]) or (isinstance(value, bool) and kind is not bool):
            return False
        if entry is not None:
            return all(self._fits(entry, None, each) for each in value)
        if kind is str:
            return not self.choices or value in self.choices
        return kind not in (int, float) or (self._in_range(value) and _computable(kind, value))

    def _in_range(self, number: float) -> bool:
        excluded = (self.above and number == self.low) or (self.below and number == self.high)
        return self.low <= number <= self.high and not excluded

    def _words(self, kind: type, entry: type | None) -> str:
        """The allowed values of a kind, such as "a whole number of at least 1"."""
        if kind is str and self.choices:
            return f"one of {', '.join(self.choices)}"
        more = f", each entry {self._words(entry, None)}" if entry else self._range() if kind in (int, float) else ""
        return KINDS[kind][1] + more

    def _range(self) -> str:
        low, high = (f"{bound:.15g}" if math.isfinite(bound) else "" for bound in (self.low, self.high))
        if low and high and not (self.above or self.below):
            return f" from {low} to {high}"
        bounds = [f" {'above' if self.above else 'of at least'} {low}"] if low else []
        bounds += [f" {'below' if self.below else 'of at most'} {high}"] if high else []
        return " and".join(bounds)


def setting(default: T, help: str, **limits: Any) -> T:
    """A field of a frozen dataclass whose value a Setting checks; the field's annotation is the Setting's kind. For a
    type checker it is the default. help, limits: as Setting has them."""
    return field(default=default, metadata={"default": default, "help": help, **limits})


def settings_of(record: type) -> dict[str, Setting[Any]]:
    """The Settings behind a dataclass whose fields are made by `setting`: {field: Setting}."""
    return {f.name: Setting(**f.metadata, kind=f.type) for f in fields(record)}


def check_fields(record: object, settings: dict[str, Setting[Any]]) -> None:
    """Check all fields of a new instance of such a dataclass, and store each value as its type. ConfigError if a value
    is not allowed."""
    for name, each in settings.items():
        object.__setattr__(record, name, each.check(name, getattr(record, name)))


def _plain(value: Any) -> Any:
    """`value` without the numbers, arrays and texts of numpy and torch, paths, and the members of an Enum of texts."""
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str):
        return str.__str__(value)
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _without_sign(value: Any) -> Any:
    """-0.0 as 0.0, which is the same setting; any other value itself."""
    return 0.0 if isinstance(value, float) and value == 0 else value


def _computable(kind: type, number: float) -> bool:
    return abs(number) <= WHOLE if kind is int else number == 0 or SMALL <= abs(number) <= LARGE


def _parsed(kind: type, text: str) -> Any:
    return ["false", "true"].index(text.lower()) == 1 if kind is bool else kind(text)
