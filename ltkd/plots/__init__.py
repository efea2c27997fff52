"""Figures: pure functions from numbers to plotly figures. One colour a group, one line style a network, everywhere."""

from .bias import confusion, group_bars, grouped_bars, mass_by_temperature, mass_per_batch, prior, reliability, spread
from .data import contact_sheet, counts, counts_twice, partitions, profiles
from .looks import GRID, METHOD_PALETTE, PALETTE, STUDENT_LINE, TEACHER_LINE, TEXT, group_colour, label_colour, style
from .terms import class_probabilities, decomposition, lines
from .training import curves, trade

__all__ = [
    "GRID",
    "METHOD_PALETTE",
    "PALETTE",
    "STUDENT_LINE",
    "TEACHER_LINE",
    "TEXT",
    "class_probabilities",
    "confusion",
    "contact_sheet",
    "counts",
    "counts_twice",
    "curves",
    "decomposition",
    "group_bars",
    "group_colour",
    "grouped_bars",
    "label_colour",
    "lines",
    "mass_by_temperature",
    "mass_per_batch",
    "partitions",
    "prior",
    "profiles",
    "reliability",
    "spread",
    "style",
    "trade",
]
