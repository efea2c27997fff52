"""The training monitor: what is recorded of a run while it trains, drawn live or from a stored run."""

import math
import time

import ipywidgets
import numpy as np
import pandas as pd

from ...errors import LtkdError, unknown
from .. import plots
from .controls import Explorer
from .run_list import RunList

REDRAW_SECONDS = 0.5  # a browser keeps up with some redraws a second, not with one a training step
MOST_PANELS = 4  # side by side
WIDTH = 24  # letters of a panel's title in one line
MOST_LISTED = 8  # rows of a list that are shown without scrolling

GROUP_MASS = "group mass of each batch"
# What is shown: {name: (beginnings of the columns, axis, one scale for all panels, title)}. A beginning with a gap at
# its end stands for one column, the others for all that begin so.
CURVES = {
    "overview": (("loss ", "train_all ", "train_head ", "train_tail "), "", False, "Training: loss and accuracy"),
    "loss terms": (("loss",), "loss", False, "The loss and its terms, as weighted by the method"),
    "distillation loss by group": (
        ("cross_kl ", "within_kl_"),
        "KL, nats",
        False,
        "How far the student is from its teacher, across and within groups (LTKD, Fig. 4)",
    ),
    "training accuracy": (("train_",), "accuracy, %", True, "Accuracy on the training images of each group"),
    "test accuracy": (("test_all ", "test_head ", "test_medium ", "test_tail "), "accuracy, %", True, "Test accuracy"),
}


class TrainingMonitor(Explorer):
    """Curves of runs: loss terms, distillation loss and accuracy by group, and the group mass of every batch.

    Live: `monitor = TrainingMonitor()`, show it by `monitor` as a cell's last line, then
    `fit(config, callbacks=[monitor])` in another cell, and `monitor.draw(runs)` at its end, which also shows runs that
    were loaded instead of trained. Of several runs with the same method and network the latest is shown.
    Recorded: `TrainingMonitor(source)`, see RunList for what a source may be.
    show: one of SHOWN, to begin with.
    """

    def __init__(self, source=None, show="overview"):
        if show not in SHOWN:
            raise unknown("figure of the monitor", show, SHOWN)
        self.histories, self.drawn_at, self._trouble, self._last = {}, -math.inf, "", 0
        listed = RunList(source) if source is not None else None
        self._stored = listed.runs if listed else {}
        self._left_out = listed.left_out if listed else ""
        self.chosen = chooser(self._stored)
        views = {"options": list(SHOWN), "value": show, "label": "show"}
        super().__init__(self._figure, {"show": views, "epoch": {"range": (1, 2), "value": 1}}, self._limits)
        self.chosen.observe(self._moved, names="value")
        self.children = [ipywidgets.HBox([self.chosen, *self.children[:1]]), *self.children[1:]]

    @property
    def values(self):
        return super().values | {"chosen": self.chosen.value}

    def __call__(self, config, history):
        """After an epoch of `fit`: redrawn if the last drawing is REDRAW_SECONDS old."""
        self._add(_label(config), history)
        if time.monotonic() - self.drawn_at >= REDRAW_SECONDS:
            self.draw()

    def draw(self, runs=()):
        """Redraw at once, with these finished runs, which may have been loaded instead of trained."""
        for run in runs:
            if _label(run.config) not in self.histories:
                self._add(_label(run.config), run.history)
        self.redraw()
        self.drawn_at = time.monotonic()

    def _add(self, label, history):
        new, self.histories[label] = label not in self.histories, history
        if new:
            self._adapting = True  # one drawing is enough, and it may have to wait
            show_options(self.chosen, [*self.chosen.options, label], [*self.chosen.value, label])
            self._adapting = False

    def _history(self, label):
        """The history so far (DataFrame), with masses as they are; None, and a note, if it cannot be read."""
        try:
            history = self.histories.get(label)
            if history is None:
                history = self.histories[label] = self._stored[label].history
        except LtkdError as error:
            self._trouble = f"Left out: {label}; {error}."
            return None
        return history if isinstance(history, pd.DataFrame) else pd.DataFrame(history)

    def _read(self, chosen):
        self._trouble = ""
        read = {label: self._history(label) for label in chosen}
        return {label: history for label, history in read.items() if history is not None and len(history)}

    def _limits(self, values):
        """The slider of epochs: for the group mass alone, as long as the longest run, at its end while that grows."""
        if values["show"] != GROUP_MASS:
            return {"epoch": {"hidden": True}}
        last = max((len(history) for history in self._read(values["chosen"]).values()), default=1)
        at_end, self._last = values["epoch"] >= self._last or values["epoch"] > last, last
        # A slider of one step is an error in the browser.
        return {"epoch": {"hidden": False, "max": max(2, last)} | ({"value": last} if at_end else {})}

    def _figure(self, show, epoch, chosen):
        histories = self._read(chosen)
        if show == GROUP_MASS:
            imported = [label for label in histories if label in self._stored and not self._stored[label].has_logits]
            whole = {label: h for label, h in histories.items() if label not in imported}
            figure, note = mass_figure(whole, epoch)
            if imported:
                note = f"{note if whole else ''} Imported runs hold no group mass of batches.".strip()
        else:
            figure, note = curve_figure(histories, show), ""
        return figure, " ".join(filter(None, (note, self._trouble, self._left_out)))


SHOWN = (*CURVES, GROUP_MASS)


def curve_figure(histories, show):
    """One of CURVES of the histories {label: DataFrame}."""
    beginnings, axis, shared, title = CURVES[show]
    columns = list(dict.fromkeys(c for history in histories.values() for c in history.columns))
    wanted = [c for start in beginnings for c in columns if f"{c} ".startswith(start)]
    wanted = list(dict.fromkeys(wanted)) or [start.strip() for start in beginnings if start.endswith(" ")]
    titles = {column: _title(column, show) for column in wanted}
    return plots.curves(histories, titles, y=axis, title=title, shared=shared)


def _title(column, show):
    """What a panel shows, in words and with its unit where the panels differ in it."""
    if show == "overview":
        return "loss" if column == "loss" else f"{column.removeprefix('train_')}, train %"
    for prefix, word in (("within_kl_", "within "), ("train_", ""), ("test_", ""), ("loss_", "")):
        if column.startswith(prefix):
            return f"{word}{column.removeprefix(prefix)}"
    return {"loss": "loss, all terms", "cross_kl": "across groups"}.get(column, column)


def mass_figure(histories, epoch):
    """The group mass of each batch in an epoch, one panel for all runs that saw the same, and a sentence."""
    panels, names = {}, ()
    for label, history in histories.items():
        pair = _masses(history, epoch)
        if pair is None or (names and pair[0].shape[1] != len(names)):  # no teacher, or other groups than the first's
            continue
        names = names or [c.removeprefix("within_kl_") for c in history.columns if c.startswith("within_kl_")]
        same = next((key for key, other in panels.items() if _equal(pair, other)), None)
        gap = ", " if same and len(f"{same}{label}") < WIDTH else ",<br>"
        panels[f"{same}{gap}{label}" if same else label] = panels.pop(same) if same else pair
    title = f"The teacher's group mass before and after rebalancing, batch by batch in epoch {epoch}"
    shown = dict(list(panels.items())[:MOST_PANELS])
    return plots.mass_before_after(shown, names, title=title), _mass_note(panels)


def _masses(history, epoch):
    """Before and after rebalancing, (n_batches, G) each, or None where no teacher was asked."""
    rows = history[history["epoch"] == epoch]
    if "teacher_mass" not in history or not len(rows) or rows.iloc[0]["teacher_mass"] is None:
        return None
    return tuple(np.stack([np.asarray(b) for b in rows.iloc[0][c]]) for c in ("teacher_mass", "rebalanced_mass"))


def _mass_note(panels):
    if not panels:
        return "None of these runs has a teacher's group mass in this epoch: choose kd, bkd or ltkd."
    sizes = next(iter(panels.values()))[0].sum(1)
    few = f"{MOST_PANELS} of {len(panels)} different masses are drawn: choose fewer runs."
    smaller = "The last batch holds fewer images, so all masses fall there."
    return " ".join([few] * (len(panels) > MOST_PANELS) + [smaller] * bool(sizes[-1] < 0.99 * sizes[0]))


def _equal(pair, other):
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-3) for a, b in zip(pair, other, strict=True))


def chooser(names):
    """A list of which several entries may be chosen, all of them at first."""
    layout = {"width": "300px", "height": "auto"}
    names = list(names)
    rows = min(max(len(names), 2), MOST_LISTED)
    tip = "Ctrl-click (on a Mac ⌘-click) for several, Shift-click for all between"
    return ipywidgets.SelectMultiple(options=names, value=names, rows=rows, layout=layout, tooltip=tip)


def show_options(widget, options, chosen):
    """List these options, texts or (text, value), and choose these values, as far as they are listed."""
    listed = [option[1] if isinstance(option, tuple) else option for option in options]
    widget.value = ()  # a choice that is not among the options would be an error on the way
    widget.options, widget.rows = list(options), min(max(len(options), 2), MOST_LISTED)
    widget.value = [value for value in chosen if value in listed]


def _label(config):
    return f"{'teacher' if config.teaches else config.method} {config.student}"
