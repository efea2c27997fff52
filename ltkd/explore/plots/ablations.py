"""Figures of ablations: what each part and each setting of a loss does to the accuracy."""

import numpy as np
import plotly.graph_objects as go

from .theme import PALETTE, TEXT, style

COLOURS = {"all": TEXT, "head": PALETTE[0], "medium": PALETTE[1], "tail": PALETTE[2]}


def two_by_two(cells, *, y, x, title):
    """A square of accuracies in per cent, the darker the higher. cells: {(row, column): (mean, half-width)}, in reading
    order; y, x: what rows and columns tell apart."""
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


def against_setting(by_name, *, x, y, title, marked=None, log=False):
    """Lines with intervals against a number that was varied. by_name: {name: (settings, means, half-widths)}, each
    (n,), half-widths None where there is one seed; marked: a setting to point at."""
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
    return figure.update_xaxes(type="log", tickvals=sorted({*settings})) if log else figure


def _with_interval(mean, half_width):
    return f"{mean:.1f} %" if np.isnan(half_width) else f"{mean:.1f} ± {half_width:.1f} %"
