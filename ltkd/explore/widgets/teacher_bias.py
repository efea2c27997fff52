"""The explorer of a teacher's bias: group mass, class prior, accuracy and calibration."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ... import metrics
from ...groups import ClassGroups
from .. import batch_terms, plots
from ..logits import SPLITS, SavedLogits, check_logits
from .batches import batch_changes, batch_controls, group_control
from .controls import Drawing, Explorer, explore

MASS, PRIOR, CALIBRATION = "group mass", "class prior", "accuracy and calibration"


def teacher_bias(
    logits: SavedLogits,
    *,
    show: str = MASS,
    network: str | None = None,
    temperature: float = 4.0,
    batch_size: int = 64,
    n_groups: int = 3,
) -> Explorer:
    """An Explorer that shows the class prior in a network's predictions.

    show, network (None: the first), temperature, batch_size, n_groups: first values of the controls. Raises ConfigError
    for a value that a control does not offer.
    """
    bias = TeacherBias(check_logits(logits))
    names = bias.logits.names
    chosen = network or names[0]
    batches = batch_controls(bias.logits, [chosen], batch_size)
    return explore(
        bias.draw,
        adapt=bias.adapt,
        show={"options": [MASS, PRIOR, CALIBRATION], "value": show, "kind": "buttons"},
        network={"options": list(names), "value": chosen},
        data=batches.pop("data"),
        temperature={"range": (0.5, 10.0, 0.1), "value": temperature},
        n_groups=group_control(n_groups, len(bias.logits.class_counts), fewest=2),
        **batches,
    )


class TeacherBias:
    """Draws the figures of the explorer of a teacher's bias."""

    def __init__(self, logits: SavedLogits):
        self.logits = logits

    def adapt(self, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The batches to choose from; the controls of batches are shown with the group mass only."""
        changes = batch_changes(self.logits, [values["network"]], values)
        for name in ("batch_size", "batch"):
            changes[name]["hidden"] = values["show"] != MASS
        return changes

    def draw(
        self, show: str, network: str, data: str, temperature: float, n_groups: int, batch_size: int, batch: int
    ) -> Drawing:
        """The figure and the note above it; the arguments are the values of the controls."""
        logits, labels = self.logits.get(data, network)
        groups = self.logits.groups(n_groups)
        where = f"{network}, {SPLITS[data]}, T = {temperature:g}"
        if show == PRIOR:
            mean = metrics.softmax(logits, temperature).mean(0)
            if data == "test":  # the bias of the network alone, also where the test set is uneven
                mean = metrics.mean_probability(logits, labels, temperature=temperature)
            return _prior(mean, self.logits.class_counts, groups, where)
        if show == CALIBRATION:
            return _calibration(logits, labels, groups, temperature, where)
        batches = batch_terms.rebalance_batches(logits, labels, groups, batch_size=batch_size, temperature=temperature)
        return _mass(batches, groups, batch - 1, where)


def _prior(mean: np.ndarray, counts: np.ndarray, groups: ClassGroups, where: str) -> Drawing:
    slope = metrics.prior_slope(mean, counts)
    figure = plots.prior(counts, mean, groups, slope, title=f"Mean probability of a class against its size: {where}")
    return figure.update_layout(height=460), (
        f"Slope {slope:.2f}: a class with ten times the training images gets {10**slope:.1f} times the probability. A "
        f"slope of 0 means no bias, 1 the whole class prior. Balanced images show the bias of the network alone; "
        f"long-tailed images already contain the prior."
    )


def _mass(batches: batch_terms.Rebalancing, groups: ClassGroups, batch: int, where: str) -> Drawing:
    figure = plots.rebalancing(batches, groups.names, batch=batch, title=f"Group mass per batch: {where}")
    factors = ", ".join(f"{name} {f:.2f}" for name, f in zip(groups.names, batches.factors[batch], strict=True))
    before, after = (sums[batch].max() / sums[batch].min() for sums in (batches.teacher, batches.rebalanced))
    return figure, (
        f"Batch {batch + 1}: scaling factors {factors} (Eq. 10). The largest group sum is {before:.2f} times the "
        f"smallest one before rebalancing, and {after:.2f} times after Eq. 11, where each image's probabilities sum to "
        f"one again."
    )


def _calibration(
    logits: np.ndarray, labels: np.ndarray, groups: ClassGroups, temperature: float, where: str
) -> Drawing:
    by_group = metrics.calibration_by_group(logits, labels, groups, temperature=temperature)
    figure = plots.calibration(by_group, title=f"Accuracy and confidence: {where}")
    whole = by_group["all"]
    return figure, (
        f"On all images the accuracy is {whole.accuracy:.1f} %, the mean confidence {whole.confidence:.1f} % and the "
        f"expected calibration error {whole.error:.1f} points. The temperature changes the confidence, not the "
        f"accuracy."
    )
