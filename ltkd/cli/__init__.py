"""The commands of the command line, one file for each topic: the functions, then their options."""

from collections.abc import Callable
from typing import Any

from . import benchmarking, data, results, training

# Each function adds its command to the parser of commands.
ADD: tuple[Callable[[Any], None], ...] = (*training.ADD, *results.ADD, *data.ADD, *benchmarking.ADD)
