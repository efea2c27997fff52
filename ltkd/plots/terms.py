"""Figures of the parts of the KL divergence, of probabilities and of losses."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .looks import PALETTE, TEXT, group_colour, style


def decomposition(rows, names, *, title="KL = cross-group + weighted within-group terms (Eq. 8)"):
    """Stacked bars of the parts of the KL divergence. rows: {label: (cross, weighted within (G,))}, plain numbers."""
    figure = go.Figure()
    labels = list(rows)
    figure.add_bar(x=labels, y=[cross for cross, _ in rows.values()], name="cross-group", marker_color="#7f7f7f")
    for g, name in enumerate(names):
        values = [float(within[g]) for _, within in rows.values()]
        figure.add_bar(x=labels, y=values, name=f"within {name}, weighted", marker_color=group_colour(g))
    return style(figure, title=title, y="KL divergence, nats", barmode="stack")


def class_probabilities(rows, groups, *, class_names, title):
    """Probabilities of every class, one panel a distribution, coloured by group. rows: {label: (C,)}."""
    figure = make_subplots(len(rows), 1, shared_xaxes=True, subplot_titles=list(rows), vertical_spacing=0.12)
    index = groups.index.numpy()
    for row, values in enumerate(rows.values(), start=1):
        colours = [group_colour(g) for g in index]
        figure.add_bar(
            x=list(class_names), y=np.asarray(values), marker_color=colours, showlegend=False, row=row, col=1
        )
    style(figure, title=title, height=140 + 170 * len(rows))
    return figure.update_yaxes(title="probability").update_xaxes(type="category")


def lines(x, by_name, *, x_title, y_title, title, colours=None, marked=None, log_x=False):
    """Plain lines. by_name: {name: (n,)}; marked: a place on x to point at."""
    figure = go.Figure()
    for i, (name, values) in enumerate(by_name.items()):
        line = {"color": (colours or PALETTE)[i % len(colours or PALETTE)]}
        figure.add_scatter(x=np.asarray(x), y=np.asarray(values), name=name, mode="lines", line=line)
    if marked is not None:
        figure.add_vline(x=marked, line_dash="dash", line_color=TEXT)
    style(figure, title=title, x=x_title, y=y_title)
    return figure.update_xaxes(type="log" if log_x else "linear")
