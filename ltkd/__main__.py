"""The command line: python -m ltkd train | sweep | table | runs | check-data | pack-data | benchmark."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from . import __version__, cli
from ._support.terminal import say
from .errors import ConfigError, Interrupted, LtkdError, ResultWarning, TeacherWarning, visible


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. arguments: those of the command line (None: sys.argv).

    0: done. 1: some runs of a sweep failed, or its time was too short for one epoch. 2: any other error. 3: the time of
    a sweep is up and runs are left. 130: Ctrl-C. 141: the reader of the output has stopped, as `| head` does.
    """
    parser = build_parser()
    warnings.showwarning = _show_warning
    warnings.simplefilter("ignore", ResultWarning)  # the report of a run has its remarks
    warnings.simplefilter("always", TeacherWarning)  # in time to stop the training
    given = parser.parse_args(arguments)
    try:
        _check_given(given)
        code: int = given.command(given) or 0
        sys.stdout.flush()  # here, to catch the BrokenPipeError of a stopped reader
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards the rest of the output
        return 141  # the shell's code for SIGPIPE
    except Interrupted as error:
        say(error, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        say("stopped; no training was running", file=sys.stderr)
        return 130
    except LtkdError as error:
        say(f"error: {error}", file=sys.stderr)
        return 2


def _show_warning(message: Warning | str, *_where: object, **_how: object) -> None:
    """Print a warning as one line, without the place in our code where it was raised."""
    say(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


def _check_given(given: argparse.Namespace) -> None:
    """Raise ConfigError for an empty value, as of an unset variable of the shell: it would mean the default."""
    for name, value in vars(given).items():
        if "" in (value if isinstance(value, list) else [value]):
            raise ConfigError(f"the value of {name.replace('_', '-')} is empty; give one, or leave it out")


class Parser(argparse.ArgumentParser):
    """A parser, and the class of those of its commands, whose errors show all characters of an unknown argument."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(message))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="python -m ltkd",
        description="Distil balanced knowledge from a biased teacher, on long-tailed data.",
    )
    parser.add_argument("--version", action="version", version=f"ltkd {__version__}")
    there = parser.add_subparsers(
        title="commands", required=True, metavar="train | sweep | table | runs | check-data | pack-data | benchmark"
    )
    for add in cli.ADD:
        add(there)
    return parser


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    sys.exit(main())
