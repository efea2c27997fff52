"""Curves of runs in training."""

import math
import time

import pandas as pd
import plotly.graph_objects as go

from .. import plots
from .controls import replace_contents

REDRAW_SECONDS = 0.5  # a browser keeps up with some redraws a second, not with one a training step


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
