"""The explorer of the KL divergence's decomposition, and the loss microscope."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ConfigError
from ...groups import ClassGroups
from ...methods import Option
from .. import batch_terms, loss_probe, plots
from ..logits import SPLITS, SavedLogits, check_logits
from .batches import batch_changes, batch_controls, batch_rows, group_control
from .controls import Drawing, Explorer, error_text, explore

BY_MASS = "group mass (Eq. 8)"


def decomposition_explorer(
    logits: SavedLogits,
    *,
    teacher: str | None = None,
    student: str | None = None,
    temperature: float = 4.0,
    batch_size: int = 64,
    n_groups: int = 3,
) -> Explorer:
    """An Explorer of the terms of KL(teacher || student) on a batch or on one image (LTKD, Eq. 8 and 13).

    logits: of at least two networks; teacher: by default the first network; student: by default the first other one
    that is not called a teacher; temperature, batch_size, n_groups: first values of the controls. Raises ConfigError
    for one network only, and for a value that a control does not offer.
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
    """Draws the figure of the decomposition explorer."""

    def __init__(self, logits: SavedLogits):
        self.logits = logits

    def adapt(self, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The batches and images to choose from."""
        changes = batch_changes(self.logits, _pair(values), values)
        batch_size = min(values["batch_size"], changes["batch_size"]["options"][-1])
        return changes | {"image": {"max": batch_size}}

    def draw(
        self,
        teacher: str,
        student: str,
        data: str,
        n_groups: int,
        batch_size: int,
        batch: int,
        image: int,
        temperature: float,
        beta: float,
    ) -> Drawing:
        """The figure and the note above it; the arguments are the values of the controls."""
        groups = self.logits.groups(n_groups)
        of_teacher, of_student, labels = _batch(self.logits, data, teacher, student, batch_size, batch)
        terms = batch_terms.kl_terms(of_teacher, of_student, groups, temperature=temperature)
        bars = self._images_of_bars(groups, labels, image)
        weightings = {BY_MASS: None, f"β = {beta:g} (Eq. 13)": beta}
        by_weighting = {
            name: {bar: batch_terms.weigh(terms, weight, images) for bar, images in bars.items()}
            for name, weight in weightings.items()
        }
        title = f"KL of {teacher!r} and {student!r}: {SPLITS[data]}, T = {temperature:g}"
        return plots.weighted_terms(by_weighting, groups.names, title=title), _identity(
            by_weighting[BY_MASS], terms.error
        )

    def _images_of_bars(self, groups: ClassGroups, labels: np.ndarray, image: int) -> dict[str, np.ndarray]:
        """{label of a bar: indices of its images}. image: 0 for the whole batch, else one image, counted from 1."""
        if image:
            label = int(labels[image - 1])
            group = groups.names[int(groups.index[label])]
            return {f"image {image}: {self.logits.class_names[label]} ({group})": np.array([image - 1])}
        of_label = groups.index.numpy()[labels]
        members = {name: np.flatnonzero(of_label == g) for g, name in enumerate(groups.names)}
        return {"all": np.arange(len(labels))} | {name: rows for name, rows in members.items() if len(rows)}


def _identity(by_images: Mapping[str, batch_terms.WeightedTerms], error: float) -> str:
    """Eq. 8 with numbers, for the first bar."""
    label, whole = next(iter(by_images.items()))
    cross, within = whole.values[0], whole.values[1:].sum()
    of = "mean over the batch" if label == "all" else label
    return (
        f"KL = {cross + within:.4f} nats ({of}) = cross-group {cross:.4f} + weighted within-group {within:.4f}. Eq. 8 "
        f"holds for every image of the batch, to {error:.0e} nats in float64. In the lower row β replaces p_G."
    )


def loss_microscope(
    logits: SavedLogits,
    *,
    methods: Sequence[str] = ("kd", "bkd", "ltkd"),
    teacher: str | None = None,
    student: str | None = None,
    batch_size: int = 64,
    n_groups: int = 3,
    tune: str | None = None,
) -> Explorer:
    """An Explorer of the losses of several methods on one batch: their terms, values and gradients by group.

    logits, teacher, student: see `decomposition_explorer`; methods: those selected at first, of all in METHODS whose
    loss needs logits only, your own included; batch_size, n_groups: first values of the controls; tune: the method
    whose options are shown first. Raises ConfigError for a method whose loss needs more than logits or fails.
    """
    microscope = LossMicroscope(check_logits(logits))
    for name in [*methods, tune] if tune else methods:
        if why := loss_probe.why_not(name):
            raise ConfigError(
                f"the loss of {name!r} cannot be computed from logits alone ({error_text(why)}): choose one of "
                f"{', '.join(microscope.options)}"
            ) from why
    tunable = [name for name, options in microscope.options.items() if options]
    first_tuned = tune or ([name for name in methods if name in tunable] or tunable)[-1]
    checkboxes = {name: {"value": name in methods, "help": _first_line(name)} for name in microscope.options}
    sliders = {
        _option_key(name, option): _option_control(option, described)
        for name, options in microscope.options.items()
        for option, described in options.items()
    }
    return explore(
        microscope.draw,
        adapt=microscope.adapt,
        **_pair_controls(microscope.logits, teacher, student, batch_size, n_groups),
        **checkboxes,
        tune={"options": tunable, "value": first_tuned, "label": "options of"},
        **sliders,
        relative={"value": False, "label": "relative to each method's own mean"},
    )


class LossMicroscope:
    """Draws the figure of the loss microscope. options: {method: {name: Option}} of all methods that it can show."""

    def __init__(self, logits: SavedLogits):
        self.logits = logits
        self.options = {name: loss_probe.options_of(name) for name in loss_probe.methods_on_logits()}

    def adapt(self, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The batches to choose from; only the options of the method `tune` are shown."""
        hidden = {
            _option_key(name, option): {"hidden": name != values["tune"]}
            for name, options in self.options.items()
            for option in options
        }
        return batch_changes(self.logits, _pair(values), values) | hidden

    def draw(
        self,
        teacher: str,
        student: str,
        data: str,
        n_groups: int,
        batch_size: int,
        batch: int,
        relative: bool,
        tune: str,
        **values: Any,
    ) -> Drawing:
        """The figure and the note above it; the arguments are the values of the controls.

        values: {method: True if it is drawn} and {"method: option": value}.
        """
        chosen = [name for name in self.options if values[name]]
        if not chosen:
            raise ConfigError("no method is selected: select at least one")
        groups = self.logits.groups(n_groups)
        of_teacher, of_student, labels = _batch(self.logits, data, teacher, student, batch_size, batch)
        looks = {}
        for name in chosen:
            options = {option: values[_option_key(name, option)] for option in self.options[name]}
            method = loss_probe.make(name, self.logits.class_counts, n_groups, **options)
            looks[name] = loss_probe.look(method, of_student, of_teacher, labels, groups)
        title = f"Student {student!r}, teacher {teacher!r}: {SPLITS[data]}"
        images = np.bincount(groups.index.numpy()[labels], minlength=n_groups)
        figure = plots.looks(looks, groups.names, relative=relative, title=title)
        return figure, _batch_note(images, groups.names, batch, looks)


def _option_key(method: str, option: str) -> str:
    """The name of the control of a method's option."""
    return f"{method}: {option}"


def _batch_note(images: np.ndarray, names: Sequence[str], batch: int, looks: Mapping[str, loss_probe.Look]) -> str:
    held = ", ".join(f"{n} {name}" for n, name in zip(images, names, strict=True))
    coupled = [name for name, look in looks.items() if look.couples]
    more = f" The images of a batch are coupled in {', '.join(coupled)}: the loss of a group alone is a different loss."
    return (
        f"Batch {batch} holds {held} images. A longer gradient moves the logits of these images further in one step. "
        f"Compare the sizes of two methods only at the same learning rate; their shares over the groups are always "
        f"comparable."
    ) + more * bool(coupled)


def _option_control(name: str, option: Option) -> dict[str, Any]:
    """The description of a control for a method's option, for `explore`."""
    common = {"value": option.default, "help": option.help, "label": name.replace("_", " ")}
    if option.choices:
        return common | {"options": list(option.choices)}
    if isinstance(option.default, bool):
        return common
    if option.high == 1 and option.default > 0.99:  # the beta of an effective number: close to 1, on a log scale
        return common | {"options": [0.0, 0.9, 0.99, 0.999, 0.9999], "kind": "steps"}
    number = type(option.default)
    most = max(4.0, 2.0 * option.default)
    step = 1 if number is int else next(step for step in (0.05, 0.1, 0.5, 1.0, most) if most <= 80 * step)
    low = option.low + step * option.above
    high = most if option.high == np.inf else option.high - step * option.below
    return common | {"range": tuple(map(number, (low, high, step)))}


def _first_line(name: str) -> str:
    """The first line of a method's docstring."""
    return (loss_probe.method_class(name).__doc__ or name).splitlines()[0]


def _pair_controls(
    logits: SavedLogits, teacher: str | None, student: str | None, batch_size: int, n_groups: int
) -> dict[str, Any]:
    """The controls that choose a teacher, a student and a batch."""
    if len(logits.names) < 2:
        raise ConfigError(
            f"a teacher and a student are needed, but there is only {logits.names[0]!r}: add another network"
        )
    teacher = teacher or logits.names[0]
    student = student or next((name for name in logits.names[1:] if "teacher" not in name), logits.names[1])
    controls = batch_controls(logits, [teacher, student], batch_size)
    return {
        "teacher": {"options": list(logits.names), "value": teacher},
        "student": {"options": list(logits.names), "value": student},
        "data": controls.pop("data"),
        "n_groups": group_control(n_groups, len(logits.class_counts)),
        **controls,
    }


def _pair(values: Mapping[str, Any]) -> list[str]:
    return [values["teacher"], values["student"]]


def _batch(
    logits: SavedLogits, split: str, teacher: str, student: str, batch_size: int, batch: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The teacher's and the student's logits (B, C) and the labels (B,) of one batch; batches count from 1."""
    rows = batch_rows(batch_size, batch)
    of_teacher, of_student, labels = logits.pair(split, teacher, student)
    return of_teacher[rows], of_student[rows], labels[rows]
