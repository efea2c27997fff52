"""The training monitor: the history of runs as curves, live during training or from stored runs."""

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ...config import RunConfig
from ...errors import LtkdError, unknown
from ...runs import Run
from .. import plots
from .controls import Drawing, Explorer, option_values
from .run_list import RunList

REDRAW_SECONDS = 0.5  # a browser can redraw a few times a second, not at every training step
MOST_PANELS = 4  # side by side
WIDTH = 24  # characters in a line of a panel's title
MOST_LISTED = 8  # rows of a list without scrolling
CHOOSE_HELP = "Ctrl-click (⌘-click on a Mac) to choose several, Shift-click to choose a range"

GROUP_MASS = "group mass of each batch"
# The figures of curves: {name: (prefixes of their columns, y axis, True if all panels share it, title)}. A prefix that
# ends with a space is the whole name of a column.
CURVES: dict[str, tuple[tuple[str, ...], str, bool, str]] = {
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

    Live: write `monitor = TrainingMonitor()` and `monitor` in one cell, and `fit(config, callbacks=[monitor])` in the
    next. End that cell with `monitor.draw(runs)`, which adds runs that `fit` loaded instead of training them. For
    several runs with the same method and network, the monitor shows the latest.
    Stored runs: `TrainingMonitor(source)`, see RunList for the sources.

    show: the first figure, one of SHOWN. histories: {label: history so far}. Raises ConfigError for an unknown figure,
    RunError or DataError if the source has no runs.
    """

    def __init__(self, source: str | Path | Mapping[str, Run] | Sequence[Run] | None = None, show: str = "overview"):
        if show not in SHOWN:
            raise unknown("figure of the monitor", show, SHOWN)
        self.histories: dict[str, Sequence[Mapping[str, Any]] | pd.DataFrame] = {}
        self._drawn_at, self._problem, self._last = -math.inf, "", 0
        listed = RunList(source) if source is not None else None
        self._stored = listed.runs if listed else {}
        self._left_out = listed.left_out if listed else ""
        self.chosen = chooser(self._stored)
        views = {"options": list(SHOWN), "value": show, "label": "show"}
        super().__init__(self._figure, {"show": views, "epoch": {"range": (1, 2), "value": 1}}, self._adapt_epoch)
        self.chosen.observe(self._moved, names="value")
        self.children = [ipywidgets.HBox([self.chosen, *self.children[:1]]), *self.children[1:]]

    @property
    def values(self) -> dict[str, Any]:
        """The values of the controls, by name, and the names of the chosen runs."""
        return super().values | {"chosen": self.chosen.value}

    def __call__(self, config: RunConfig, history: Sequence[Mapping[str, Any]]) -> None:
        """The callback of `fit` after an epoch: redraw, but not within REDRAW_SECONDS of the last drawing."""
        self._add(_label(config), history)
        if time.monotonic() - self._drawn_at >= REDRAW_SECONDS:
            self.draw()

    def draw(self, runs: Iterable[Run] = ()) -> None:
        """Redraw now, with those of these finished runs that are not shown yet."""
        for run in runs:
            if _label(run.config) not in self.histories:
                self._add(_label(run.config), run.history)
        self.redraw()
        self._drawn_at = time.monotonic()

    def _add(self, label: str, history: Sequence[Mapping[str, Any]] | pd.DataFrame) -> None:
        new, self.histories[label] = label not in self.histories, history
        if new:
            with self._without_drawing():
                show_options(self.chosen, [*self.chosen.options, label], [*self.chosen.value, label])

    def _history(self, label: str) -> pd.DataFrame | None:
        """The history so far, one row per epoch; None if it cannot be read, and then the note gives the reason."""
        try:
            history = self.histories.get(label)
            if history is None:
                history = self.histories[label] = self._stored[label].history
        except LtkdError as error:
            self._problem = f"Left out: {label}; {error}."
            return None
        return history if isinstance(history, pd.DataFrame) else pd.DataFrame(history)

    def _histories(self, chosen: Iterable[str]) -> dict[str, pd.DataFrame]:
        """{label: history} of the chosen runs that have one."""
        self._problem = ""
        read = {label: self._history(label) for label in chosen}
        return {label: history for label, history in read.items() if history is not None and len(history)}

    def _adapt_epoch(self, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Show the slider of epochs with the group mass only. It moves with the end of the longest run."""
        if values["show"] != GROUP_MASS:
            return {"epoch": {"hidden": True}}
        last = max((len(history) for history in self._histories(values["chosen"]).values()), default=1)
        at_end, self._last = values["epoch"] >= self._last or values["epoch"] > last, last
        return {"epoch": {"max": last} | ({"value": last} if at_end else {})}

    def _figure(self, show: str, epoch: int, chosen: Sequence[str]) -> Drawing:
        histories = self._histories(chosen)
        if show == GROUP_MASS:
            imported = [label for label in histories if label in self._stored and not self._stored[label].has_logits]
            whole = {label: h for label, h in histories.items() if label not in imported}
            figure, note = mass_figure(whole, epoch)
            if imported:
                note = f"{note if whole else ''} Imported runs hold no group mass of batches.".strip()
        else:
            figure, note = curve_figure(histories, show), ""
        return figure, " ".join(filter(None, (note, self._problem, self._left_out)))


SHOWN = (*CURVES, GROUP_MASS)


def curve_figure(histories: Mapping[str, pd.DataFrame], show: str) -> go.Figure:
    """The figure called `show`, one of CURVES. histories: {label: Run.history}."""
    prefixes, axis, shared, title = CURVES[show]
    columns = list(dict.fromkeys(c for history in histories.values() for c in history.columns))
    wanted = [c for prefix in prefixes for c in columns if f"{c} ".startswith(prefix)]
    wanted = list(dict.fromkeys(wanted)) or [prefix.strip() for prefix in prefixes if prefix.endswith(" ")]
    titles = {column: _panel_title(column, show) for column in wanted}
    return plots.curves(histories, titles, y=axis, title=title, shared=shared)


def _panel_title(column: str, show: str) -> str:
    """The title of a column's panel, with its unit if the panels have different units."""
    if show == "overview":
        return "loss" if column == "loss" else f"{column.removeprefix('train_')}, train %"
    for prefix, word in (("within_kl_", "within "), ("train_", ""), ("test_", ""), ("loss_", "")):
        if column.startswith(prefix):
            return f"{word}{column.removeprefix(prefix)}"
    return {"loss": "loss, all terms", "cross_kl": "across groups"}.get(column, column)


def mass_figure(histories: Mapping[str, pd.DataFrame], epoch: int) -> Drawing:
    """The group mass of each batch in an epoch, and a note. Runs with the same masses share a panel."""
    panels: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    names: list[str] = []
    for label, history in histories.items():
        pair = _masses(history, epoch)
        if pair is None or (names and pair[0].shape[1] != len(names)):  # no teacher, or other groups than the first run
            continue
        names = names or [c.removeprefix("within_kl_") for c in history.columns if c.startswith("within_kl_")]
        same = next((key for key, other in panels.items() if _equal(pair, other)), None)
        gap = ", " if same and len(f"{same}{label}") < WIDTH else ",\n"
        panels[f"{same}{gap}{label}" if same else label] = panels.pop(same) if same else pair
    title = f"The teacher's group mass before and after rebalancing, batch by batch in epoch {epoch}"
    shown = dict(list(panels.items())[:MOST_PANELS])
    return plots.mass_before_after(shown, names, title=title), _mass_note(panels)


def _masses(history: pd.DataFrame, epoch: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Group masses before and after rebalancing, (n_batches, G) each; None if there was no teacher."""
    rows = history[history["epoch"] == epoch]
    if "teacher_mass" not in history or not len(rows) or rows.iloc[0]["teacher_mass"] is None:
        return None
    before, after = (
        np.stack([np.asarray(batch) for batch in rows.iloc[0][column]])
        for column in ("teacher_mass", "rebalanced_mass")
    )
    return before, after


def _mass_note(panels: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    if not panels:
        return "None of these runs has a teacher's group mass in this epoch: choose kd, bkd or ltkd."
    sizes = next(iter(panels.values()))[0].sum(1)
    more = f"The first {MOST_PANELS} of {len(panels)} different masses are drawn: choose fewer runs."
    smaller = "The last batch holds fewer images, so its masses are smaller."
    return " ".join([more] * (len(panels) > MOST_PANELS) + [smaller] * bool(sizes[-1] < 0.99 * sizes[0]))


def _equal(pair: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(a.shape == b.shape and np.allclose(a, b, rtol=1e-3) for a, b in zip(pair, other, strict=True))


def chooser(names: Collection[str]) -> ipywidgets.SelectMultiple:
    """A list that allows a choice of several entries; at first all of them are chosen."""
    widget = ipywidgets.SelectMultiple(layout={"width": "300px", "height": "auto"}, tooltip=CHOOSE_HELP)
    show_options(widget, names, names)
    return widget


def show_options(widget: ipywidgets.SelectMultiple, options: Collection[Any], chosen: Collection[Any]) -> None:
    """List these options, each a value or (text, value), and choose those of the `chosen` values that are listed."""
    widget.value = ()  # the old choice may not be among the new options
    widget.options, widget.rows = list(options), min(max(len(options), 2), MOST_LISTED)
    listed = option_values(options)
    widget.value = [value for value in chosen if value in listed]


def _label(config: RunConfig) -> str:
    return f"{'teacher' if config.teaches else config.method} {config.student}"
