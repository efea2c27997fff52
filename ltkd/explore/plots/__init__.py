"""Figures: pure functions from numbers to plotly figures, with one colour per group and one line style per network."""

from .ablations import against_setting, two_by_two
from .bias import (
    calibration,
    group_bars,
    grouped_bars,
    mass_by_temperature,
    mass_per_batch,
    prior,
    rebalancing,
    spread,
)
from .data import contact_sheet, counts, counts_twice, longtail, partitions, profiles
from .terms import class_probabilities, decomposition, lines, looks, weighted_terms
from .theme import GRID, METHOD_PALETTE, PALETTE, STUDENT_LINE, TEACHER_LINE, TEXT, group_colour, label_colour, style
from .training import (
    accuracy_by_size,
    class_confusions,
    colours_of,
    curves,
    differences,
    group_confusions,
    lines_of,
    mass_before_after,
    trade,
)

__all__ = [
    "GRID",
    "METHOD_PALETTE",
    "PALETTE",
    "STUDENT_LINE",
    "TEACHER_LINE",
    "TEXT",
    "accuracy_by_size",
    "against_setting",
    "calibration",
    "class_confusions",
    "class_probabilities",
    "colours_of",
    "contact_sheet",
    "counts",
    "counts_twice",
    "curves",
    "decomposition",
    "differences",
    "group_bars",
    "group_colour",
    "group_confusions",
    "grouped_bars",
    "label_colour",
    "lines",
    "lines_of",
    "longtail",
    "looks",
    "mass_before_after",
    "mass_by_temperature",
    "mass_per_batch",
    "partitions",
    "prior",
    "profiles",
    "rebalancing",
    "spread",
    "style",
    "trade",
    "two_by_two",
    "weighted_terms",
]
