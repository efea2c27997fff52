"""The papers' tables: their numbers, the grids of their runs, and what is needed to train, price and compare them."""

from importlib.resources import files


def data(name):
    """A folder of the data that ship inside the package: 'published' or 'grids'."""
    return files(__name__) / "data" / name
