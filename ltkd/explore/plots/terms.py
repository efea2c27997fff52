"""Figures of the parts of the KL divergence, of probabilities and of losses."""

import numpy as np
import plotly.graph_objects as go

from .theme import PALETTE, TEXT, group_colour, panels, plain_text, style

GREYS = ("#b8bec8", "#8b93a1", "#d9dde3")  # of the terms of a loss, which belong to no group
MOST_NAMED = 20  # classes; the names of more would not fit below their bars
CROSS = "#7f7f7f"  # the colour of the cross-group term, which belongs to no group


def decomposition(rows, names, *, title="KL = cross-group + weighted within-group terms (Eq. 8)"):
    """Stacked bars of the parts of the KL divergence. rows: {label: (cross, weighted within (G,))}, plain numbers."""
    figure = go.Figure()
    labels = list(rows)
    figure.add_bar(x=labels, y=[cross for cross, _ in rows.values()], name="cross-group", marker_color=CROSS)
    for g, name in enumerate(names):
        values = [float(within[g]) for _, within in rows.values()]
        figure.add_bar(x=labels, y=values, name=f"within {name}, weighted", marker_color=group_colour(g))
    return style(figure, title=title, y="KL divergence, nats", barmode="stack")


def weighted_terms(by_weighting, names, *, title="The terms of the divergence and their weights"):
    """Weights, values and share of the gradient of the terms: one row a weighting, one bar a set of images.

    by_weighting: {weighting: {images: batch_terms.WeightedTerms}}; names: of the groups.
    """
    headings = ("weight of the term", "value, nats", "share of the gradient, %")
    figure = panels(len(by_weighting), 3, headings, horizontal_spacing=0.08, vertical_spacing=0.1)
    labels, colours = (
        ("cross-group", *(f"within {name}" for name in names)),
        (CROSS, *map(group_colour, range(len(names)))),
    )
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


def _weights_values_shares(terms):
    """Of several WeightedTerms: weights, values, and gradients in per cent of their sum, each (n, 1 + G)."""
    weights = np.array([[np.nan, *term.weights] for term in terms])
    pull = np.array([term.pull for term in terms])
    return (
        weights,
        np.array([term.values for term in terms]),
        100 * pull / np.maximum(pull.sum(1, keepdims=True), 1e-300),
    )


def looks(by_method, names, *, relative=False, title="One batch, several losses"):
    """The loss of each method by term, its value on each group's images, and its pull on them. by_method: {method:
    microscope.Look}; names: of the groups; relative: terms as shares of the loss, the rest in units of its mean over
    the groups."""
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
        bars = [_group_bars(list(by_method), sizes[:, g], g, name, row == 1) for g, name in enumerate(names)]
        figure.add_traces(bars, [row] * len(bars), [2] * len(bars))
    style(figure, title=title, height=560, barmode="stack", legend_traceorder="normal")
    if relative:
        figure.update_yaxes(title={"text": "times the groups' mean", "standoff": 6}, col=2)
    return figure.update_xaxes(type="category", tickangle=-30 if len(by_method) > 4 else 0)


def _group_bars(methods, sizes, g, name, in_legend):
    """One bar a method for the images of group g; where there are few, with their numbers."""
    few = len(methods) <= 4
    return go.Bar(
        x=methods,
        y=sizes,
        name=f"{name} images",
        marker_color=group_colour(g),
        offsetgroup=name,
        legendgroup=name,
        showlegend=in_legend,
        **plain_text("%{y:.2f}" if few else None),
    )


def _stacks_of_terms(methods, parts, number):
    """One stack of terms a method, in greys; parts: [{term: value}], one a method."""
    for_each = [[*terms.items()] for terms in parts]
    many = len(methods) > 4  # then name and number stand one below the other
    stacks, room = [], max(sum(terms.values()) for terms in parts) / (10 if many else 20)  # else no text fits
    for k in range(max(map(len, for_each))):
        kth = [items[k] if k < len(items) else ("", None) for items in for_each]
        between = "<br>" if many else " "
        texts = [
            f"{name}{between}{number % value}" if value is not None and value > room else "" for name, value in kth
        ]
        stacks.append(
            go.Bar(
                x=methods,
                y=[value for _, value in kth],
                text=texts,
                **plain_text(position="inside", insidetextanchor="middle"),
                marker={"color": GREYS[k % len(GREYS)], "line": {"width": 1, "color": TEXT}},
                showlegend=False,
                customdata=[name for name, _ in kth],
                hovertemplate="%{x}: %{customdata} %{y:.3g}<extra></extra>",
            )
        )
    return stacks


def class_probabilities(rows, groups, *, class_names, title, true=None):
    """Probabilities of every class, one panel a distribution, coloured by group. rows: {label: (C,)}; true: the
    image's class. Of many classes the most probable is named in the panel, and on the axis the true one."""
    figure = panels(len(rows), 1, list(rows), shared_xaxes=True, vertical_spacing=0.12)
    index, names = groups.index.numpy(), list(class_names)
    many = len(names) > MOST_NAMED
    for row, values in enumerate(map(np.asarray, rows.values()), start=1):
        figure.add_bar(
            x=names,
            y=values,
            marker_color=[group_colour(g) for g in index],
            text=[name if i == values.argmax() else "" for i, name in enumerate(names)] if many else None,
            **plain_text(),
            showlegend=False,
            row=row,
            col=1,
        )
    style(figure, title=title, height=140 + 170 * len(rows))
    if many:
        shown = [] if true is None else [names[true]]
        figure.update_xaxes(tickvals=shown, ticktext=[f"<b>{name}</b>, the image's class" for name in shown])
    return figure.update_yaxes(title="probability").update_xaxes(type="category", automargin=True)


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
