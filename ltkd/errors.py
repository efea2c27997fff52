"""Errors a user can act on: one sentence that says what was wrong, what is allowed and what to do."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

LONGEST = 100  # characters of a value in an error message


def visible(text: object) -> str:
    """The text as one line that shows all of its characters: those that act on a screen are written as `repr` does.

    So the name of a class or a folder can neither colour a terminal, nor begin a line of its own, nor reverse what
    follows it.

    >>> print(visible("a\\nb \\x1b[31m é"))
    a\\nb \\x1b[31m é
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class LtkdError(Exception):
    """Base of all errors of this package. The command line and notebooks print it without a traceback, as one line."""

    def __str__(self) -> str:  # it may quote an error of another library, which has many lines, and names of others
        return visible(" ".join(super().__str__().split()))

    def _render_traceback_(self) -> list[str]:  # IPython calls it in place of printing forty lines of frames
        return [f"{type(self).__name__}: {self}"]


class ConfigError(LtkdError, ValueError):
    """A parameter is unknown, of the wrong type or out of range."""


class DataError(LtkdError):
    """Data are missing, damaged or do not fit the settings."""


class RunError(LtkdError):
    """A run cannot be trained, stored or read."""


class SweepError(RunError):
    """Some runs of a sweep failed. finished: the runs that succeeded; failed: {name of a run: its error}."""

    def __init__(self, finished: Sequence[Any], failed: Mapping[str, LtkdError]) -> None:
        name, error = next(iter(failed.items()))
        others = f" (and {len(failed) - 1} more failed)" if len(failed) > 1 else ""
        super().__init__(f"{name} failed: {error}{others}; {len(finished)} runs of the sweep are finished and stored")
        self.finished, self.failed = finished, failed

    def __reduce__(self) -> tuple[Any, ...]:  # pickle would pass the message alone to __init__
        return type(self), (self.finished, self.failed)


class Interrupted(LtkdError):
    """Ctrl-C during training; the message says what is stored and how to go on."""


class TimeUp(Interrupted):
    """The time for training is over; the message says what is stored and how to go on."""


class ResultWarning(UserWarning):
    """Something in a run's scores that its reader must know; `remarks` in the result has it too."""


class TeacherWarning(ResultWarning):
    """Something in a teacher's scores, said before it teaches; `remarks` in the result has it too."""


def warn(message: str, category: type[ResultWarning]) -> None:
    """Warn without the line of code that warns: it tells the user nothing, and is not in the user's own files."""
    warnings.warn_explicit(message, category, filename="ltkd", lineno=0, module="ltkd")


def shown(value: object) -> str:
    """The value as one short line, for an error message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def unknown(kind: str, name: object, known: Iterable[object]) -> ConfigError:
    """The error for a name that is not in `known`; it suggests the nearest known name, if one is near."""
    names = sorted(map(str, known))
    hint = f"did you mean {near!r}? " if (near := _nearest(str(name), names)) else ""
    return ConfigError(f"unknown {kind} {shown(name)}: {hint}known are {', '.join(names)}")


def _nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that `name` may be a misspelling of: very like it, or like it with the same first letter."""
    alike = [each for each in known if each[:1] == name[:1]]
    close = get_close_matches(name, known, n=1, cutoff=0.75) or get_close_matches(name, alike, n=1, cutoff=0.6)
    return close[0] if close else None
