"""Paired differences over seeds with intervals, and the parts of the spread from subsets and from initial weights."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigError, RunError
from ..runs import Run, interval

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 10_000  # resamples of the bootstrap


class Paired(NamedTuple):
    """The mean difference of n pairs, with its 95 % interval by Student's t (low, high) and by the bootstrap (boot_low,
    boot_high). Intervals are NaN for a single pair."""

    n: int
    mean: float
    low: float
    high: float
    boot_low: float
    boot_high: float


def paired(first: "pd.Series", second: "pd.Series") -> Paired:
    """The differences first − second of two Series, paired by their index. Unmatched entries are dropped.

    The index is usually the seed: runs of one seed have the same subset and the same teacher. Raises ConfigError for an
    index with duplicates.
    """
    if not (first.index.is_unique and second.index.is_unique):
        raise ConfigError("values to be paired need an index without duplicates, such as one run for each seed")
    differences = (first - second).dropna().to_numpy(float)  # pandas aligns both by their index
    if not len(differences):
        return Paired(0, math.nan, math.nan, math.nan, math.nan, math.nan)
    mean, half = float(differences.mean()), interval(differences)
    return Paired(len(differences), mean, mean - half, mean + half, *bootstrap(differences))


def check_same_images(runs: Iterable[Run]) -> None:
    """Raise RunError if finished runs of one pair have different training images. Runs of earlier versions that do not
    store a fingerprint of the images are not checked."""
    by_images = {run.result["train_fingerprint"]: run.config.name for run in runs if "train_fingerprint" in run.result}
    if len(by_images) > 1:
        first, second, *_ = by_images.values()
        raise RunError(
            f"the runs {first} and {second} have the same seed but different training images, so that they are not a "
            "pair; this happens if the data set has another layout on disk: drop one, or train both from one copy"
        )


def bootstrap(values: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean: (low, high), NaN for fewer than two values.

    values: (n,). The interval is too narrow for few values: three have only ten different resamples.
    """
    from scipy.stats import bootstrap

    values = np.asarray(values, float)
    if len(values) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    found = bootstrap((values,), np.mean, n_resamples=draws, method="percentile", rng=rng).confidence_interval
    return float(found.low), float(found.high)


class Components(NamedTuple):
    """Standard deviations of an accuracy: between subsets, between initial weights (and orders of the images), and the
    rest; estimated from `subsets` subsets and `initials` seeds."""

    subset: float
    initial: float
    rest: float
    subsets: int
    initials: int


def variance_components(frame: "pd.DataFrame", measure: str = "all") -> Components:
    """The parts of the spread of an accuracy: two-way analysis of variance with one run in each cell.

    frame: rows of `runs.table` of one setting, every subset_seed with every seed. measure: a column. Negative estimates
    of a variance become zero. Raises ConfigError unless there are at least two of each and every combination once.
    """
    cells = frame.pivot_table(index="subset_seed", columns="seed", values=measure, aggfunc=list)
    single = cells.map(lambda cell: isinstance(cell, list) and len(cell) == 1)
    if min(cells.shape) < 2 or not single.all(axis=None):
        raise ConfigError(
            f"{cells.shape[0]} subsets and {cells.shape[1]} seeds do not have one run for each combination; train "
            f"every subset_seed, at least two, with every seed, at least two, and pass the rows of these runs only"
        )
    values = cells.map(lambda cell: cell[0]).to_numpy(float)
    n_subsets, n_initials = values.shape
    rows, columns, mean = values.mean(1), values.mean(0), values.mean()
    rest = values - rows[:, None] - columns[None] + mean
    square_rest = (rest**2).sum() / ((n_subsets - 1) * (n_initials - 1))
    between = (n_initials * rows.var(ddof=1) - square_rest) / n_initials
    within = (n_subsets * columns.var(ddof=1) - square_rest) / n_subsets
    subset, initial, unexplained = (math.sqrt(max(0.0, v)) for v in (between, within, square_rest))
    return Components(subset, initial, unexplained, n_subsets, n_initials)
