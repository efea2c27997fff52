"""Controls around the figures of `plots`: they move sliders and redraw, and compute nothing of their own."""

import math
import time

import ipywidgets
import pandas as pd
import plotly.graph_objects as go

from . import plots

REDRAW_SECONDS = 0.5  # a browser keeps up with some redraws a second, not with one a training step


def explore(draw, **controls):
    """Controls above a figure that `draw(**values)` makes, redrawn on every move.

    controls: by argument name, (low, high) or (low, high, step) for a slider, with an optional starting value as
    {'range': (...), 'value': ...}; a list for a choice. Returns the widget to display.
    """
    widgets = {name: _control(name, control) for name, control in controls.items()}
    values = {name: widget.value for name, widget in widgets.items()}
    figure = go.FigureWidget(draw(**values))

    def redraw(change):
        values[change["owner"].argument] = change["new"]
        replace_contents(figure, draw(**values))

    for name, widget in widgets.items():
        widget.argument = name
        widget.observe(redraw, names="value")
    return ipywidgets.VBox([*widgets.values(), figure])


def _control(name, control):
    label = {"description": name.replace("_", " "), "style": {"description_width": "120px"}}
    wide = {"layout": {"width": "480px"}, "continuous_update": True}
    if isinstance(control, list):
        return ipywidgets.Dropdown(options=control, **label)
    start = control.get("value") if isinstance(control, dict) else None
    low, high, *rest = control["range"] if isinstance(control, dict) else control
    whole = all(isinstance(v, int) for v in (low, high, *rest))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    step = rest[0] if rest else (1 if whole else (high - low) / 50)
    return kind(value=low if start is None else start, min=low, max=high, step=step, **label, **wide)


def replace_contents(figure, new):
    """Make the FigureWidget `figure` show what the figure `new` shows, keeping its traces where they match."""
    with figure.batch_update():
        if [t.type for t in figure.data] == [t.type for t in new.data]:
            for shown, fresh in zip(figure.data, new.data, strict=True):
                shown.update(fresh.to_plotly_json(), overwrite=True)
        else:
            figure.data = ()
            figure.add_traces(new.data)
        figure.layout.update(new.layout.to_plotly_json(), overwrite=True)


class LiveCurves:
    """Loss and accuracy of the runs in training, redrawn as they grow: `fit(config, callbacks=[live])`.

    columns: {column of the history: title of its panel}. Display `live.figure` in a cell before the one that trains,
    and call `live.draw(runs)` at the end. Of several runs with the same method and network the latest is shown.
    """

    def __init__(self, columns):
        self.columns = columns
        self.histories, self.drawn_at = {}, -math.inf
        self.figure = go.FigureWidget(self._figure())

    def __call__(self, config, history):
        self.histories[_label(config)] = history
        if time.monotonic() - self.drawn_at >= REDRAW_SECONDS:
            self.draw()

    def draw(self, runs=()):
        """Redraw at once, with these finished runs, which may have been loaded instead of trained."""
        for run in runs:
            self.histories.setdefault(_label(run.config), run.history)
        replace_contents(self.figure, self._figure())
        self.drawn_at = time.monotonic()

    def _figure(self):
        numbers = ["epoch", *self.columns]
        frames = {label: pd.DataFrame(rows).reindex(columns=numbers) for label, rows in self.histories.items()}
        return plots.curves(frames, self.columns, y="", title="Training, live", shared=False)


def _label(config):
    return f"{config.method} {config.student}"
