"""The command line: python -m ltkd train | sweep | table | runs | check-data | pack-data | benchmark."""

import argparse
import os
import sys

from . import __version__, cli
from .errors import Interrupted, LtkdError


def main(arguments=None):
    """Run one command; returns the exit code: 0 done, 1 some runs of a sweep failed, or no epoch was finished in its
    time, 2 any other error, 3 the time of a sweep is up and it is not done, 130 Ctrl-C, 141 nobody reads the output."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    try:
        code = given.command(given) or 0
        sys.stdout.flush()  # here, where a reader that has gone, such as `| head`, is no fault
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to say at exit goes nowhere
        return 141  # as a shell says of a program whose reader has gone
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("stopped; nothing was being trained", file=sys.stderr)
        return 130
    except LtkdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def build_parser():
    """The parser of all commands; its options are the fields of RunConfig and the methods' own options."""
    parser = argparse.ArgumentParser(
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
    sys.exit(main())
