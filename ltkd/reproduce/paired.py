"""How sure a difference is: paired over seeds, and what of the spread is the subset's and what the initial weights'."""

import math
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError, RunError
from ..runs import interval

DRAWS = 10_000


class Paired(NamedTuple):
    """The mean of the differences of n pairs, its 95 % interval by Student's t (low, high) and by the bootstrap
    (boot_low, boot_high). Intervals are NaN for a single pair."""

    n: int
    mean: float
    low: float
    high: float
    boot_low: float
    boot_high: float


def paired(first, second):
    """The differences first − second of two Series, paired by their index, such as the seed (runs of one seed saw the
    same subset and the same teacher). Unmatched entries are dropped.

    Raises ConfigError for an index with duplicates.
    """
    if not (first.index.is_unique and second.index.is_unique):
        raise ConfigError("values to be paired need an index without duplicates, such as one run for each seed")
    differences = (first - second).dropna().to_numpy(float)  # pandas puts together what has the same key
    if not len(differences):
        return Paired(0, *[math.nan] * 5)
    mean, half = float(differences.mean()), interval(differences)
    return Paired(len(differences), mean, mean - half, mean + half, *bootstrap(differences))


def check_same_images(runs):
    """Raise RunError unless finished runs that are to be paired learned from the same images, as far as their results
    say: those of earlier versions do not."""
    by_images = {run.result["train_fingerprint"]: run.config.name for run in runs if "train_fingerprint" in run.result}
    if len(by_images) > 1:
        first, second, *_ = by_images.values()
        raise RunError(
            f"the runs {first} and {second} are of one seed but kept different training images, as the same data set "
            "in another layout on disk gives them: they are no pair; leave one out, or train both from one copy"
        )


def bootstrap(values, *, draws=DRAWS, seed=0):
    """The 95 % percentile bootstrap interval of the mean: (low, high), NaN for fewer than two values.

    It is too narrow for few values: three have only ten different resamples.
    """
    from scipy.stats import bootstrap

    values = np.asarray(values, float)
    if len(values) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    found = bootstrap((values,), np.mean, n_resamples=draws, method="percentile", rng=rng).confidence_interval
    return float(found.low), float(found.high)


class Components(NamedTuple):
    """Standard deviations: between subsets, between initial weights (and orders of the images), and what neither
    explains; from so many subsets and initialisations."""

    subset: float
    initial: float
    rest: float
    subsets: int
    initials: int


def variance_components(frame, measure="all"):
    """How much of the spread of an accuracy is the subset's and how much the initial weights': rows of `runs.table` of
    one setting in which every subset_seed is crossed with every seed (two-way analysis of variance, one run a cell;
    what comes out below zero is zero). Raises ConfigError unless there are two of each, all crossed.
    """
    cells = frame.pivot_table(index="subset_seed", columns="seed", values=measure, aggfunc=list)
    alone = cells.map(lambda cell: isinstance(cell, list) and len(cell) == 1)
    if min(cells.shape) < 2 or not alone.all(axis=None):
        raise ConfigError(
            f"{cells.shape[0]} subsets and {cells.shape[1]} seeds are not crossed with one run a cell; train every "
            f"subset_seed, of at least two, with every seed, of at least two, and give the rows of these runs alone"
        )
    values = cells.map(lambda cell: cell[0]).to_numpy(float)
    n_subsets, n_initials = values.shape
    rows, columns, mean = values.mean(1), values.mean(0), values.mean()
    rest = values - rows[:, None] - columns[None] + mean
    square_rest = (rest**2).sum() / ((n_subsets - 1) * (n_initials - 1))
    between = (n_initials * rows.var(ddof=1) - square_rest) / n_initials
    within = (n_subsets * columns.var(ddof=1) - square_rest) / n_subsets
    return Components(*(math.sqrt(max(0.0, v)) for v in (between, within, square_rest)), n_subsets, n_initials)
