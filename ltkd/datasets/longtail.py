"""How many images each class keeps, and the subset that follows such a profile."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..errors import ConfigError, DataError, unknown

PARETO_POWER = 6  # ImageNet-LT's, as BKD section 5.1 gives it


def exponential(n_max: int, factor: float, n_classes: int) -> np.ndarray:
    """n_c = n_max * factor^(-c / (C-1)): what the field's code does (LDAM, BBN, BKD); ends at n_max/factor."""
    return n_max * factor ** -(np.arange(n_classes) / max(n_classes - 1, 1))


def exponential_eq15(n_max: int, factor: float, n_classes: int) -> np.ndarray:
    """n_c = n_max * factor^(-c / C), c from 0: LTKD's Eq. 15 to the letter; the last class has a little more."""
    return n_max * factor ** -(np.arange(n_classes) / n_classes)


def step(n_max: int, factor: float, n_classes: int) -> np.ndarray:
    """The first half of the classes keeps n_max, the second half n_max / factor (LDAM)."""
    return np.where(np.arange(n_classes) < n_classes / 2, n_max, n_max / factor)


def pareto(n_max: int, factor: float, n_classes: int) -> np.ndarray:
    """n_c = n_max * (1 + k c / (C-1))^-6, a Pareto curve of power 6; k makes it end at n_max/factor."""
    k = factor ** (1 / PARETO_POWER) - 1
    return n_max * (1 + k * np.arange(n_classes) / max(n_classes - 1, 1)) ** -PARETO_POWER


PROFILES = {"exp": exponential, "exp-eq15": exponential_eq15, "step": step, "pareto": pareto}
AS_IS = "as-is"  # every image of the source


def profile_names() -> tuple[str, ...]:
    """The names of all profiles, for `class_counts`."""
    return (*PROFILES, AS_IS)


def class_counts(
    profile: str | Sequence[int],
    imbalance_factor: float,
    available: np.ndarray | Sequence[int],
    *,
    capped: bool = False,
) -> np.ndarray:
    """Training images to keep of each class: int (C,).

    profile: a name of `profile_names()`, or one count a class. imbalance_factor: images of the first class over
    images of the last, at least 1. available (C,): images that the source has. capped: True if a class with fewer
    images than a named profile asks for gives all it has.

    Raises ConfigError for an unknown profile or a wrong number of counts, DataError if a class has too few images or
    would be left without any.
    """
    available = np.asarray(available)
    if isinstance(profile, str):
        if profile == AS_IS:
            return available.copy()
        if profile not in PROFILES:
            raise unknown("profile", profile, profile_names())
        wanted = PROFILES[profile](available.max(), float(imbalance_factor), len(available))
        counts = np.floor(wanted + 1e-9).astype(int)  # 1e-9: 500 * 100^-1 must count as 5, whatever the rounding
        counts = np.minimum(counts, available) if capped else counts
    else:
        counts = np.asarray(profile, dtype=int)
        if len(counts) != len(available):
            raise ConfigError(f"{len(counts)} counts given for {len(available)} classes; give one count a class")
    _check(counts, available, imbalance_factor)
    return counts


def _check(counts: np.ndarray, available: np.ndarray, imbalance_factor: float) -> None:
    if (counts < 1).any():
        raise DataError(
            f"class {int(np.argmax(counts < 1))} would be left without images: imbalance factor {imbalance_factor:g} "
            f"is too large for {available.max()} images in the largest class; choose {available.max()} or less"
        )
    if (short := counts > available).any():
        c = int(np.argmax(short))
        raise DataError(
            f"class {c} has {available[c]} images, but this profile asks for {counts[c]}; choose another profile or "
            f"imbalance factor, or take the data as they are (profile {AS_IS!r})"
        )


def longtail_indices(labels: Tensor | np.ndarray, counts: np.ndarray | Sequence[int], seed: int) -> np.ndarray:
    """Indices (n,) of a random subset with `counts[c]` images of class c, in ascending order.

    labels: int (N,). counts: int (C,). For one seed the subset for a smaller count lies inside that for a larger one.
    """
    labels = np.asarray(labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    ends = np.cumsum(np.bincount(labels, minlength=len(counts)))
    starts = ends - np.bincount(labels, minlength=len(counts))
    return np.sort(np.concatenate([by_class[s : s + n] for s, n in zip(starts, counts, strict=True)]))
