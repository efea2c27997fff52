"""Figures of ablations: the effect of each part and each setting of a loss on the accuracy."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from .theme import PALETTE, TEXT, plain_text, style

COLOURS = {"all": TEXT, "head": PALETTE[0], "medium": PALETTE[1], "tail": PALETTE[2]}


@plain_text
def two_by_two(cells: Mapping[tuple[str, str], tuple[float, float]], *, y: str, x: str, title: str) -> go.Figure:
    """A table of accuracies in per cent; a darker cell is a higher accuracy.

    cells: {(row, column): (mean, half-width of its interval, NaN for one seed)}, in reading order; y, x: titles of the
    rows and of the columns.
    """
    rows, columns = (list(dict.fromkeys(key[axis] for key in cells)) for axis in (0, 1))
    means = np.array([[cells[row, column][0] for column in columns] for row in rows])
    texts = [[_with_interval(*cells[row, column]) for column in columns] for row in rows]
    figure = go.Figure(
        go.Heatmap(
            z=means,
            x=columns,
            y=rows,
            text=texts,
            texttemplate="%{text}",
            textfont={"size": 16},
            colorscale="Blues",
            zmin=0,
            zmax=100,
            xgap=4,
            ygap=4,
            showscale=False,
            hoverinfo="skip",
        )
    )
    style(figure, title=title, x=x, y=y, height=340)
    return figure.update_yaxes(autorange="reversed", automargin=True, title_standoff=20)


@plain_text
def against_setting(
    by_name: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike | None]],
    *,
    x: str,
    y: str,
    title: str,
    marked: float | None = None,
    log: bool = False,
) -> go.Figure:
    """Lines with intervals against a setting that varies.

    by_name: {name: (settings, means, half-widths)}, each (n,); half-widths are None for one seed. marked: a setting to
    mark with a vertical line; log: a logarithmic x axis.
    """
    figure = go.Figure()
    for i, (name, (settings, means, half_widths)) in enumerate(by_name.items()):
        colour = COLOURS.get(name, PALETTE[i % len(PALETTE)])
        figure.add_scatter(
            x=np.asarray(settings, dtype=float),
            y=np.asarray(means, dtype=float),
            error_y=None if half_widths is None else {"array": np.asarray(half_widths, dtype=float), "thickness": 1},
            name=name,
            mode="lines+markers",
            line={"color": colour},
        )
    if marked is not None:
        figure.add_vline(x=marked, line_dash="dash", line_color=TEXT)
    style(figure, title=title, x=x, y=y)
    if log:
        every = np.concatenate([np.asarray(settings) for settings, _, _ in by_name.values()])
        figure.update_xaxes(type="log", tickvals=np.unique(every).tolist())
    return figure


def _with_interval(mean: float, half_width: float) -> str:
    return f"{mean:.1f} %" if np.isnan(half_width) else f"{mean:.1f} ± {half_width:.1f} %"
