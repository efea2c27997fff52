"""The only place where this package writes to a terminal: names in its lines come from files and folders of others."""

import sys
from typing import TYPE_CHECKING, TextIO

from ..errors import visible

if TYPE_CHECKING:
    import pandas as pd


def say(*lines: object, file: TextIO | None = None) -> None:
    """Print each argument as one line, as `visible` shows it. file: default sys.stdout."""
    print(*map(visible, lines), sep="\n", file=file, flush=True)


def say_table(frame: "pd.DataFrame") -> None:
    """Print a table of text and numbers in aligned columns, without its index; a missing value is '-'."""
    shown = frame.map(lambda cell: visible(cell) if isinstance(cell, str) else cell)
    say(*shown.to_string(index=False, na_rep="-", float_format="%.2f").split("\n"))


def say_csv(frame: "pd.DataFrame") -> None:
    """Print a table as comma-separated values: to a file or another program as they are, to a terminal made visible."""
    text = frame.to_csv(index=False).removesuffix("\n")
    if sys.stdout.isatty():
        say(*text.split("\n"))
    else:
        print(text)
