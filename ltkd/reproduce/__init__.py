"""The papers' tables: their numbers, the grids of their runs, and tools to train, estimate and compare the runs."""

from importlib.resources import files
from importlib.resources.abc import Traversable


def data(name: str) -> Traversable:
    """A data folder of this package: 'published' or 'grids'."""
    return files(__name__) / "data" / name
