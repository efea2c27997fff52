"""Figures of the parts of the KL divergence, of probabilities and of losses."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from ...groups import ClassGroups
from ..batch_terms import WeightedTerms
from ..loss_probe import Look
from .theme import PALETTE, TEXT, bar_text, group_colour, panels, plain_text, style

# Terms that belong to no group are grey.
TERM_GREYS = ("#b8bec8", "#8b93a1", "#d9dde3")
CROSS_GREY = "#7f7f7f"
MOST_NAMED = 20  # the names of more classes do not fit below their bars
MOST_WIDE = 4  # the bars of more methods are narrow, with shorter texts


@plain_text
def decomposition(
    rows: Mapping[str, tuple[float, np.ndarray]],
    names: Sequence[str],
    *,
    title: str = "KL = cross-group + weighted within-group terms (Eq. 8)",
) -> go.Figure:
    """Stacked bars of the parts of the KL divergence (LTKD, Eq. 8), in nats.

    rows: {label: (cross-group term, weighted within-group terms (G,))}; names: of the G groups.
    """
    figure = go.Figure()
    labels = list(rows)
    figure.add_bar(x=labels, y=[cross for cross, _ in rows.values()], name="cross-group", marker_color=CROSS_GREY)
    for g, name in enumerate(names):
        values = [float(within[g]) for _, within in rows.values()]
        figure.add_bar(x=labels, y=values, name=f"within {name}, weighted", marker_color=group_colour(g))
    return style(figure, title=title, y="KL divergence, nats", barmode="stack")


@plain_text
def weighted_terms(
    by_weighting: Mapping[str, Mapping[str, WeightedTerms]],
    names: Sequence[str],
    *,
    title: str = "The terms of the divergence and their weights",
) -> go.Figure:
    """Weight, value and share of the gradient of each term: one row per weighting, one bar per set of images.

    by_weighting: {weighting: {set of images: WeightedTerms}}; names: of the G groups.
    """
    headings = ("weight of the term", "value, nats", "share of the gradient, %")
    figure = panels(len(by_weighting), 3, headings, horizontal_spacing=0.08, vertical_spacing=0.1)
    labels = ["cross-group", *(f"within {name}" for name in names)]
    colours = [CROSS_GREY, *map(group_colour, range(len(names)))]
    bars, rows, columns = [], [], []
    for row, by_images in enumerate(by_weighting.values(), start=1):
        for column, values in enumerate(_weights_values_shares([*by_images.values()]), start=1):
            for i in range(column == 1, len(labels)):  # the cross-group term has no weight
                look = {"name": labels[i], "legendgroup": labels[i], "marker_color": colours[i]}
                bars.append(go.Bar(x=[*by_images], y=values[:, i], showlegend=row == 1 and column == 2, **look))
                rows.append(row)
                columns.append(column)
    figure.add_traces(bars, rows, columns)
    style(figure, title=title, height=120 + 230 * len(by_weighting), barmode="stack", legend_traceorder="normal")
    for row, weighting in enumerate(by_weighting, start=1):
        figure.update_yaxes(title={"text": weighting, "standoff": 6}, row=row, col=1)
    by = {"text": "images, by the group of their label", "standoff": 6}
    return figure.update_xaxes(title=by, row=len(by_weighting), col=2)


def _weights_values_shares(terms: Sequence[WeightedTerms]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, values, and gradients in per cent of their sum: (n, 1 + G) each."""
    weights = np.array([[np.nan, *term.weights] for term in terms])
    values = np.array([term.values for term in terms])
    pull = np.array([term.pull for term in terms])
    return weights, values, 100 * pull / np.maximum(pull.sum(1, keepdims=True), 1e-300)


@plain_text
def looks(
    by_method: Mapping[str, Look],
    names: Sequence[str],
    *,
    relative: bool = False,
    title: str = "One batch, several losses",
) -> go.Figure:
    """The loss of each method by term, and by group: its value on the group's images and its gradient there.

    by_method: {method: Look}; names: of the G groups; relative: terms in per cent of the loss, values and gradients as
    multiples of their mean over the groups.
    """
    parts = [dict(look.terms) for look in by_method.values()]
    value = np.array([[look.alone[name] for name in names] for look in by_method.values()])
    pull = np.array([[look.gradient[name] for name in names] for look in by_method.values()])
    if relative:
        parts = [{name: 100 * part / sum(terms.values()) for name, part in terms.items()} for terms in parts]
        value, pull = (sizes / np.nanmean(sizes, 1, keepdims=True) for sizes in (value, pull))
    headings = ("the loss by term" + ", %" * relative, "loss of a group's images alone", "gradient on their logits")
    layout = {"specs": [[{"rowspan": 2}, {}], [None, {}]], "column_widths": [0.42, 0.58], "shared_xaxes": "columns"}
    figure = panels(2, 2, headings, horizontal_spacing=0.1, vertical_spacing=0.1, **layout)
    stacks = _stacks_of_terms(list(by_method), parts, "%.0f %%" if relative else "%.2f")
    figure.add_traces(stacks, [1] * len(stacks), [1] * len(stacks))
    for row, sizes in enumerate((value, pull), start=1):
        bars = [_bars_of_group(list(by_method), sizes[:, g], g, name, row == 1) for g, name in enumerate(names)]
        figure.add_traces(bars, [row] * len(bars), [2] * len(bars))
    style(figure, title=title, height=560, barmode="stack", legend_traceorder="normal")
    if relative:
        figure.update_yaxes(title={"text": "times the groups' mean", "standoff": 6}, col=2)
    return figure.update_xaxes(type="category", tickangle=-30 if len(by_method) > MOST_WIDE else 0)


def _bars_of_group(methods: Sequence[str], sizes: np.ndarray, g: int, name: str, in_legend: bool) -> go.Bar:
    """One bar per method for the images of group g, called `name`; few bars show their numbers. sizes (n_methods,)."""
    return go.Bar(
        x=methods,
        y=sizes,
        name=f"{name} images",
        marker_color=group_colour(g),
        offsetgroup=name,
        legendgroup=name,
        showlegend=in_legend,
        **bar_text("%{y:.2f}" if len(methods) <= MOST_WIDE else None),
    )


def _stacks_of_terms(methods: Sequence[str], parts: Sequence[Mapping[str, float]], number: str) -> list[go.Bar]:
    """One grey stack of terms per method. parts: {term: value} of each method; number: a %-format of a value."""
    by_method = [[*terms.items()] for terms in parts]
    narrow = len(methods) > MOST_WIDE
    between = "\n" if narrow else " "
    smallest = max(sum(terms.values()) for terms in parts) / (10 if narrow else 20)  # a text does not fit into less
    stacks = []
    for k in range(max(map(len, by_method))):
        kth = [terms[k] if k < len(terms) else ("", None) for terms in by_method]
        texts = [
            f"{name}{between}{number % value}" if value is not None and value > smallest else "" for name, value in kth
        ]
        stacks.append(
            go.Bar(
                x=methods,
                y=[value for _, value in kth],
                text=texts,
                **bar_text(position="inside", insidetextanchor="middle"),
                marker={"color": TERM_GREYS[k % len(TERM_GREYS)], "line": {"width": 1, "color": TEXT}},
                showlegend=False,
                customdata=[name for name, _ in kth],
                hovertemplate="%{x}: %{customdata} %{y:.3g}<extra></extra>",
            )
        )
    return stacks


@plain_text
def class_probabilities(
    rows: Mapping[str, ArrayLike],
    groups: ClassGroups,
    *,
    class_names: Sequence[str],
    title: str,
    true: int | None = None,
) -> go.Figure:
    """Probabilities of all classes, one panel per distribution, coloured by group.

    rows: {label: (C,)}; true: the image's class. With more than MOST_NAMED classes only the most probable one and the
    true one are named.
    """
    figure = panels(len(rows), 1, list(rows), shared_xaxes=True, vertical_spacing=0.12)
    index, names = groups.index.numpy(), list(class_names)
    many = len(names) > MOST_NAMED
    for row, values in enumerate(map(np.asarray, rows.values()), start=1):
        figure.add_bar(
            x=names,
            y=values,
            marker_color=[group_colour(g) for g in index],
            text=[name if i == values.argmax() else "" for i, name in enumerate(names)] if many else None,
            **bar_text(),
            showlegend=False,
            row=row,
            col=1,
        )
    style(figure, title=title, height=140 + 170 * len(rows))
    if many:
        shown = [] if true is None else [names[true]]
        figure.update_xaxes(tickvals=shown, ticktext=[f"{name}, the image's class" for name in shown])
    return figure.update_yaxes(title="probability").update_xaxes(type="category", automargin=True)


@plain_text
def lines(
    x: ArrayLike,
    by_name: Mapping[str, ArrayLike],
    *,
    x_title: str,
    y_title: str,
    title: str,
    colours: Sequence[str] = PALETTE,
    marked: float | None = None,
    log_x: bool = False,
) -> go.Figure:
    """Plain lines. x (n,); by_name: {name: (n,)}; marked: a place on x to mark with a vertical line."""
    figure = go.Figure()
    for i, (name, values) in enumerate(by_name.items()):
        line = {"color": colours[i % len(colours)]}
        figure.add_scatter(x=np.asarray(x), y=np.asarray(values), name=name, mode="lines", line=line)
    if marked is not None:
        figure.add_vline(x=marked, line_dash="dash", line_color=TEXT)
    style(figure, title=title, x=x_title, y=y_title)
    return figure.update_xaxes(type="log" if log_x else "linear")
