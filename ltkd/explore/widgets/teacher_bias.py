"""The teacher's bias: in the mass of groups, in the probability of classes, in accuracy and confidence."""

from ... import metrics
from .. import batch_terms, plots
from ..logits import SPLITS, check_logits
from .batches import batch_changes, batch_controls, group_control
from .controls import explore

MASS, PRIOR, CALIBRATION = "group mass", "class prior", "accuracy and calibration"


def teacher_bias(logits, *, show=MASS, network=None, temperature=4.0, batch_size=64, n_groups=3):
    """Look for the class prior in a network's answers: an Explorer.

    logits: SavedLogits; show, network, temperature, batch_size, n_groups: where
    the controls start, the network being the first unless named.
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
    """What the explorer of a teacher's bias draws, from SavedLogits."""

    def __init__(self, logits):
        self.logits = logits

    def adapt(self, values):
        """Which batches there are; controls of batches belong to the group mass alone."""
        changes = batch_changes(self.logits, [values["network"]], values)
        for name in ("batch_size", "batch"):
            changes[name]["hidden"] = values["show"] != MASS
        return changes

    def draw(self, show, network, data, temperature, n_groups, batch_size, batch):
        """The figure, and a sentence on it."""
        answers = *self.logits.get(data, network), self.logits.groups(n_groups)
        where = f"{network}, {SPLITS[data]}, T = {temperature:g}"
        if show == PRIOR:
            return self._prior(*answers, temperature, where)
        if show == CALIBRATION:
            return _calibration(*answers, temperature, where)
        return _mass(*answers, temperature, batch_size, batch - 1, where)

    def _prior(self, logits, _labels, groups, temperature, where):
        counts = self.logits.class_counts
        mean = metrics.softmax(logits, temperature).mean(0)
        slope = metrics.prior_slope(mean, counts)
        figure = plots.prior(counts, mean, groups, slope)
        figure.update_layout(title_text=f"Mean probability of a class against its size: {where}", height=460)
        return figure, (
            f"Slope {slope:.2f}: a class with ten times the training images gets {10**slope:.1f} times the "
            f"probability. 0 is no bias, 1 the whole class prior; balanced images tell what the "
            f"network adds, long-tailed ones have the prior in them."
        )


def _mass(logits, labels, groups, temperature, batch_size, batch, where):
    batches = batch_terms.rebalance_batches(logits, labels, groups, batch_size=batch_size, temperature=temperature)
    figure = plots.rebalancing(batches, groups.names, batch=batch, title=f"Group mass per batch: {where}")
    factors = ", ".join(f"{name} {f:.2f}" for name, f in zip(groups.names, batches.factors[batch], strict=True))
    before, after = (sums[batch].max() / sums[batch].min() for sums in (batches.teacher, batches.rebalanced))
    return figure, (
        f"Batch {batch + 1}: scaling factors {factors} (Eq. 10). The largest group's sum is {before:.2f} times the "
        f"smallest's before, and {after:.2f} times after Eq. 11, which makes every row sum to one again."
    )


def _calibration(logits, labels, groups, temperature, where):
    by_group = metrics.calibration_by_group(logits, labels, groups, temperature=temperature)
    figure = plots.calibration(by_group, title=f"Accuracy and confidence: {where}")
    whole = by_group["all"]
    return figure, (
        f"{whole.accuracy:.1f} % right on all images at a mean confidence of {whole.confidence:.1f} %; the mean "
        f"distance of the two over bins of confidence is {whole.error:.1f} points. The temperature "
        f"moves confidence alone."
    )
