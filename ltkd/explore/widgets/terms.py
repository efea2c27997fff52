"""The decomposition of the KL divergence, and the loss microscope."""

import numpy as np

from ...errors import ConfigError, LtkdError
from .. import batch_terms, loss_probe, plots
from ..logits import SPLITS, check_logits
from .batches import batch_changes, batch_controls, batch_rows, group_control
from .controls import explore

BY_MASS = "p<sub>G</sub> (Eq. 8)"


def decomposition_explorer(logits, *, teacher=None, student=None, temperature=4.0, batch_size=64, n_groups=3):
    """Take KL(teacher || student) apart on a batch or on one image (LTKD, Eq. 8 and 13): an Explorer.

    logits: SavedLogits of two networks at least; teacher, student: their names, by default
    the first and the next that is not called a teacher; temperature, batch_size, n_groups: where the controls start.
    """
    explorer = DecompositionExplorer(check_logits(logits))
    return explore(
        explorer.draw,
        adapt=explorer.adapt,
        **_pair_controls(explorer.logits, teacher, student, batch_size, n_groups),
        image={"range": (0, batch_size), "value": 0, "help": "0: the whole batch", "label": "image (0: all)"},
        temperature={"range": (0.5, 10.0, 0.1), "value": temperature},
        beta={"range": (0.0, 8.0, 0.1), "value": 1.0, "label": "β (Eq. 13)"},
    )


class DecompositionExplorer:
    """What the explorer of the decomposition draws, from SavedLogits."""

    def __init__(self, logits):
        self.logits = logits

    def adapt(self, values):
        """Which batches and images there are."""
        changes = batch_changes(self.logits, _pair(values), values)
        batch_size = min(values["batch_size"], changes["batch_size"]["options"][-1])
        return changes | {"image": {"max": batch_size}}

    def draw(self, teacher, student, data, n_groups, batch_size, batch, image, temperature, beta):
        """The figure, and a sentence on it."""
        groups = self.logits.groups(n_groups)
        of_teacher, of_student, labels = _batch(self.logits, data, teacher, student, batch_size, batch)
        terms = batch_terms.kl_terms(of_teacher, of_student, groups, temperature=temperature)
        rows = self._rows(groups, labels, image)
        weightings = {BY_MASS: None, f"β = {beta:g} (Eq. 13)": beta}
        by_weighting = {
            name: {row: batch_terms.weigh(terms, weight, images) for row, images in rows.items()}
            for name, weight in weightings.items()
        }
        title = f"KL of {teacher!r} and {student!r}: {SPLITS[data]}, T = {temperature:g}"
        return plots.weighted_terms(by_weighting, groups.names, title=title), _split(by_weighting[BY_MASS], terms)

    def _rows(self, groups, labels, image):
        """Which images each bar is of: {label: indices}."""
        if image:
            label = int(labels[image - 1])
            group = groups.names[int(groups.index[label])]
            return {f"image {image}: {self.logits.class_names[label]} ({group})": [image - 1]}
        of_label = groups.index.numpy()[labels]
        members = {name: np.flatnonzero(of_label == g) for g, name in enumerate(groups.names)}
        return {"all": np.arange(len(labels))} | {name: rows for name, rows in members.items() if len(rows)}


def _split(by_images, terms):
    """The identity in words, with numbers."""
    label, whole = next(iter(by_images.items()))
    cross, within = whole.values[0], whole.values[1:].sum()
    of = "mean over the batch" if label == "all" else label
    return (
        f"KL = {cross + within:.4f} nats ({of}) = cross-group {cross:.4f} + weighted within-group {within:.4f}. Eq. 8 "
        f"holds on every image of the batch to {terms.error:.0e} nats in float64. Below, β stands in place of p_G."
    )


def loss_microscope(
    logits, *, methods=("kd", "bkd", "ltkd"), teacher=None, student=None, batch_size=64, n_groups=3, tune=None
):
    """Any methods' losses on one batch: their terms, and how hard each pulls on head and tail: an Explorer.

    logits: as for `decomposition_explorer`; methods: those ticked at first, of all in METHODS whose loss needs logits
    alone (a class of your own in METHODS too); tune: the method whose options are shown first.
    """
    explorer = LossMicroscope(check_logits(logits))
    for name in [*methods, tune] if tune else methods:
        if why := loss_probe.why_not(name):
            said = f"{why}" if isinstance(why, LtkdError) else f"{type(why).__name__}: {why}"
            raise ConfigError(
                f"the loss of {name!r} cannot be computed from logits alone ({said}): choose of "
                f"{', '.join(explorer.methods)}"
            ) from why
    options = {
        explorer.key(name, option): _option_control(option, described)
        for name in explorer.methods
        for option, described in loss_probe.options_of(name).items()
    }
    tunable = [name for name in methods if name in explorer.tunable] or explorer.tunable
    ticks = {name: {"value": name in methods, "help": _first_line(name)} for name in explorer.methods}
    return explore(
        explorer.draw,
        adapt=explorer.adapt,
        **_pair_controls(explorer.logits, teacher, student, batch_size, n_groups),
        **ticks,
        tune={"options": explorer.tunable, "value": tune or tunable[-1], "label": "options of"},
        **options,
        relative={"value": False, "label": "relative to each method's own mean"},
    )


class LossMicroscope:
    """What the loss microscope draws, from SavedLogits."""

    def __init__(self, logits):
        self.logits = logits
        self.methods = loss_probe.methods_on_logits()
        self.tunable = [name for name in self.methods if loss_probe.options_of(name)]

    def key(self, method, option):
        """The name of the control of an option."""
        return f"{method}: {option}"

    def adapt(self, values):
        """Which batches there are; options are shown of one method."""
        keys = {self.key(name, option): name for name in self.methods for option in loss_probe.options_of(name)}
        hidden = {key: {"hidden": name != values["tune"]} for key, name in keys.items()}
        return batch_changes(self.logits, _pair(values), values) | hidden

    def draw(self, teacher, student, data, n_groups, batch_size, batch, relative, tune, **values):
        """The figure, and a sentence on it."""
        chosen = [name for name in self.methods if values[name]]
        if not chosen:
            raise ConfigError("no method is ticked: tick one at least")
        groups = self.logits.groups(n_groups)
        of_teacher, of_student, labels = _batch(self.logits, data, teacher, student, batch_size, batch)
        made = {
            name: loss_probe.make(name, self.logits.class_counts, n_groups, **self._options(name, values))
            for name in chosen
        }
        looks = {name: loss_probe.look(method, of_student, of_teacher, labels, groups) for name, method in made.items()}
        title = f"Student {student!r}, teacher {teacher!r}: {SPLITS[data]}"
        images = np.bincount(groups.index.numpy()[labels], minlength=n_groups)
        return plots.looks(looks, groups.names, relative=relative, title=title), _counted(
            images, groups.names, batch, looks
        )

    def _options(self, name, values):
        return {option: values[self.key(name, option)] for option in loss_probe.options_of(name)}


def _counted(images, names, batch, looks):
    held = ", ".join(f"{n} {name}" for n, name in zip(images, names, strict=True))
    coupled = [name for name, look in looks.items() if look.couples]
    more = f" The images of a batch are coupled in {', '.join(coupled)}: on a group alone it is another loss."
    return (
        f"Batch {batch} holds {held} images. A longer gradient moves the logits of such images further in one step; "
        f"the sizes of two methods compare only at one learning rate, their shares over the groups always."
    ) + more * bool(coupled)


def _option_control(name, option):
    """A control for an option of a method."""
    common = {"value": option.default, "help": option.help}
    if option.choices:
        return common | {"options": list(option.choices), "label": name.replace("_", " ")}
    if isinstance(option.default, bool):
        return common | {"label": name.replace("_", " ")}
    if option.high == 1 and option.default > 0.99:  # of an effective number: what matters are the nines
        return common | {"options": [0.0, 0.9, 0.99, 0.999, 0.9999], "kind": "steps", "label": name.replace("_", " ")}
    number = type(option.default)
    most = max(4.0, 2.0 * option.default)
    step = 1 if number is int else next(step for step in (0.05, 0.1, 0.5, 1.0, most) if most <= 80 * step)
    low = option.low + step * option.above
    high = most if option.high == np.inf else option.high - step * option.below
    return common | {"range": tuple(map(number, (low, high, step))), "label": name.replace("_", " ")}


def _first_line(name):
    return (loss_probe.method_class(name).__doc__ or name).splitlines()[0]


def _pair_controls(logits, teacher, student, batch_size, n_groups):
    """Controls of a teacher and a student on one batch."""
    if len(logits.names) < 2:
        raise ConfigError(
            f"a teacher and a student are needed, but there is only {logits.names[0]!r}: add another network"
        )
    teacher, student = (
        teacher or logits.names[0],
        student or next((name for name in logits.names[1:] if "teacher" not in name), logits.names[1]),
    )
    controls = batch_controls(logits, [teacher, student], batch_size)
    return {
        "teacher": {"options": list(logits.names), "value": teacher},
        "student": {"options": list(logits.names), "value": student},
        "data": controls.pop("data"),
        "n_groups": group_control(n_groups, len(logits.class_counts)),
        **controls,
    }


def _pair(values):
    return [values["teacher"], values["student"]]


def _batch(logits, split, teacher, student, batch_size, batch):
    """Logits of teacher and student and the labels of one batch, counted from 1."""
    return tuple(values[batch_rows(batch_size, batch)] for values in logits.pair(split, teacher, student))
