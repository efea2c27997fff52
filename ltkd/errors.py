"""Errors a user can act on: one sentence that says what was wrong, what is allowed and what to do."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any


def visible(text: object) -> str:
    """The text as one line that shows all of its characters: those that act on a screen are written as `repr` does.

    So the name of a class or a folder can neither colour a terminal, nor begin a line of its own, nor reverse what
    follows it.

    >>> print(visible("a\\nb \\x1b[31m é"))
    a\\nb \\x1b[31m é
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class LtkdError(Exception):
    """Base of all errors of this package. The command line and notebooks print it without a traceback."""

    def __str__(self) -> str:  # names of others stand in it
        return visible(super().__str__())

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


def unknown(kind: str, name: object, known: Iterable[object]) -> ConfigError:
    """The error for a name that is not in `known`; it suggests the nearest known name."""
    close = get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ConfigError(f"unknown {kind} {name!r}: {hint}known are {', '.join(sorted(map(str, known)))}")
