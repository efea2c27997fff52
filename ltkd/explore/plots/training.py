"""Figures of runs: curves over epochs, group mass of their batches, confusion, accuracy against class size, and what a
method gains and pays."""

import math
import re

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...methods import METHODS
from .theme import PALETTE, STUDENT_LINE, TEACHER_LINE, TEXT, group_colour, label_colour, style

ROW = 4  # panels side by side: more of them are too narrow to read on a projector
SQUARES = 3  # square panels side by side: fewer leave the rest of the row empty
OTHERS = 9  # from where on the palette of methods serves other names, such as a second teacher's
POINTS = 1000  # a browser redraws no longer lines in the time of a slider's move


def curves(histories, columns, *, y, title, shared=True):
    """Curves over epochs, one panel a column. histories: {label: DataFrame, as Run.history}; columns: {column: panel
    title}; runs without a column, and epochs without a value, are passed over. shared: one scale for all panels."""
    figure, places = _panels(list(columns.values()), shared_yaxes="all" if shared else None)
    looks = lines_of(histories)
    traces, where, listed = [], [], set()
    for label, history in histories.items():
        panels = [panel for panel in zip(columns, places, strict=True) if panel[0] in history]
        for column, place in panels:
            known = history[column].notna()
            setting = _setting(label)  # the legend names a setting once, however many seeds and panels show it
            look = {"legendgroup": setting, "showlegend": setting not in listed, "line": looks[label]}
            mode = "lines+markers" if known.sum() == 1 else "lines"  # a line of one point cannot be seen
            x, y_values = history["epoch"][known].to_numpy(float), history[column][known].to_numpy(float)
            traces.append(go.Scatter(x=x, y=y_values, mode=mode, name=setting, **look))
            where.append(place)
            listed.add(setting)
    if traces:
        figure.add_traces(traces, *map(list, zip(*where, strict=True)))
    style(figure, title=title, height=_height(places))
    figure.update_xaxes(title="epoch", row=_last_row(places))
    return figure.update_yaxes(title=y, col=1)


def lines_of(labels):
    """The line of each label: {label: its colour and dash}. The teacher's is solid, a student's dashed, and of several
    students with one colour, such as one method with two weights, each is dashed in a way of its own. Seeds of one
    setting look the same."""
    looks, used = {}, {}
    for setting, colour in colours_of(map(_setting, labels)).items():
        own = TEACHER_LINE if "teacher" in setting else STUDENT_LINE
        dashes = (own, "dot", "dashdot", "longdashdot", "longdash")
        looks[setting] = {"color": colour, "dash": dashes[used.get(colour, 0) % len(dashes)], "width": 2}
        used[colour] = used.get(colour, 0) + 1
    return {label: looks[_setting(label)] for label in labels}


def colours_of(settings):
    """The colour of each setting: its method's, the teacher's grey, for other names one that few methods have."""
    settings, known = list(dict.fromkeys(settings)), {"teacher", *METHODS}
    others = [setting for setting in settings if setting.split(" ")[0].lower() not in known]
    return {s: label_colour(s, OTHERS + others.index(s) if s in others else 0) for s in settings}


def _setting(label):
    """A run's label without its seed."""
    return re.sub(r" seed \d+$", "", str(label))


def mass_before_after(masses, names, *, title):
    """The teacher's group mass of each batch before rebalancing (solid) and after it (dotted; LTKD, Eq. 9 to 11), one
    panel an entry. masses: {panel title: (before (n_batches, G), after (n_batches, G))}."""
    figure, places = _panels(list(masses), shared_yaxes="all")
    for pair, (row, col) in zip(masses.values(), places, strict=True):
        for mass, when, dash in zip(pair, ("before", "after"), ("solid", "dot"), strict=True):
            mass = np.asarray(mass)
            batches = np.arange(0, len(mass), math.ceil(len(mass) / POINTS) or 1)
            for g, name in enumerate(names):
                figure.add_scatter(
                    x=batches + 1,
                    y=mass[batches, g],
                    name=f"{name}, {when}",
                    legendgroup=f"{name}, {when}",
                    showlegend=(row, col) == (1, 1),
                    mode="lines",
                    line={"color": group_colour(g), "dash": dash, "width": 2},
                    row=row,
                    col=col,
                )
    lines = max((label.count("<br>") for label in masses), default=0)  # of the panels' titles, below the first
    style(figure, title=title, height=_height(places) + 18 * lines)
    figure.update_layout(margin_t=66 + 18 * lines, title={"yref": "container", "y": 1, "yanchor": "top", "pad_t": 14})
    figure.update_xaxes(title="batch", row=_last_row(places))
    return figure.update_yaxes(title="summed probability of the group", col=1, rangemode="tozero")


def trade(summary, baseline, *, by="method", title="What the tail gained, what the head paid"):
    """Each method's mean head and tail accuracy against a baseline's. summary: rows of `runs.summarise`; by: the column
    that names them; baseline: a name in it. Intervals where a row has several seeds."""
    base = summary[summary[by] == baseline].iloc[0]
    cost, gain = summary["head"] - base["head"], summary["tail"] - base["tail"]
    limits, colours = _room(cost, summary["head_ci"]), colours_of(summary[by])
    figure = go.Figure()
    for i, (name, x, y, row) in enumerate(zip(summary[by], cost, gain, summary.itertuples(), strict=True)):
        side = "right" if x < sum(limits) / 2 else "left"  # towards the middle, where there is room
        figure.add_scatter(
            x=[x],
            y=[y],
            error_x=_interval(row.head_ci),
            error_y=_interval(row.tail_ci),
            mode="markers+text",
            text=[name],
            textposition=f"{('top', 'bottom')[i % 2]} {side}",  # neighbours in the table stay apart in the figure
            cliponaxis=False,
            marker={"size": 12, "color": colours[name]},
            name=name,
            showlegend=False,
        )
    figure.add_hline(y=0, line_color=TEXT, line_width=1).add_vline(x=0, line_color=TEXT, line_width=1)
    x = f"head accuracy minus {baseline}'s, points"
    style(figure, title=title, x=x, y=f"tail accuracy minus {baseline}'s, points", height=430)
    figure.update_xaxes(range=limits, zeroline=False)
    return figure.update_yaxes(range=_room(gain, summary["tail_ci"]), zeroline=False)


def _interval(half):
    """An error bar, or None for a single seed, whose interval is not a number."""
    return {"array": [half], "color": TEXT, "thickness": 1} if np.isfinite(half) else None


def accuracy_by_size(curves, groups, class_counts, *, dots=None, title="Accuracy against the size of a class"):
    """Test accuracy against the training images of a class, on a logarithmic axis.

    curves: {label: (training images (n,), accuracy in per cent (n,), half-width of its interval (n,) or NaN)}, the
    first two as metrics.accuracy_by_size gives them; dots: {label: accuracy of each class (C,)}, drawn behind;
    groups and class_counts (C,): where one group ends and the next begins.
    """
    figure = go.Figure()
    looks = lines_of(curves)
    for label, accuracy in (dots or {}).items():
        marker = {"color": looks[label]["color"], "size": 5, "opacity": 0.4}
        figure.add_scatter(x=class_counts, y=accuracy, mode="markers", marker=marker, showlegend=False, name=label)
    for label, (sizes, accuracy, half) in curves.items():
        figure.add_scatter(
            x=sizes,
            y=accuracy,
            error_y={"array": half, "thickness": 1, "width": 3} if np.isfinite(half).any() else None,
            name=label,
            mode="lines+markers",
            marker={"size": 7},
            line=looks[label],
        )
    style(figure, title=title, x="training images of the class, log scale", y="test accuracy, %", height=430)
    figure.update_yaxes(rangemode="tozero", minallowed=0, maxallowed=105)
    figure.update_xaxes(type="log", tickvals=[m * 10**e for e in range(7) for m in (1, 2, 5)])
    _mark_groups(figure, groups, np.asarray(class_counts))
    return figure


def _mark_groups(figure, groups, class_counts):
    """Name each group above its classes on the logarithmic axis, and draw a line where the next begins."""
    index = groups.index.numpy()
    order = np.argsort(-class_counts, kind="stable")
    logs = np.log10(np.maximum(class_counts, 1))
    for g, name in enumerate(groups.names):
        centre = float(logs[index == g].mean())
        look = {"font": {"color": group_colour(g)}, "showarrow": False, "yref": "paper", "yanchor": "bottom"}
        figure.add_annotation(x=centre, y=1.0, text=name, **look)
    for place in np.flatnonzero(np.diff(index[order])):
        border = 10 ** float(logs[order[place : place + 2]].mean())
        figure.add_vline(x=border, line_color=TEXT, line_dash="dot", line_width=1)


def group_confusions(matrices, names, *, title="Where do the images of a group go?"):
    """Confusion matrices folded to groups, one panel an entry. matrices: {label: (G, G) shares, rows are true}."""
    figure, places = _panels(list(matrices))
    text = "%{z:.0f}" if len(names) <= 5 else None
    for matrix, (row, col) in zip(matrices.values(), places, strict=True):
        heat = go.Heatmap(
            z=100 * np.asarray(matrix), x=list(names), y=list(names), texttemplate=text, coloraxis="coloraxis"
        )
        figure.add_trace(heat, row, col)
    return _confusion_looks(figure, places, len(names), "category", title=title, colours="Blues")


# Mistakes of a class spread over many others: a scale that is linear to 100 % would show the diagonal alone.
FAINT_FIRST = ((0, "#f7fbff"), (0.05, "#c6dbef"), (0.2, "#6baed6"), (0.5, "#2171b5"), (1, "#08306b"))


def class_confusions(matrices, groups, *, title="Confusion of all classes, from most to fewest training images"):
    """Confusion matrices of all classes (BKD, Fig. 2), one panel an entry. matrices: {label: (C, C) shares, rows are
    true, from most to fewest training images}, as metrics.sorted_confusion gives them."""
    figure, places = _panels(list(matrices))
    ends = np.cumsum(groups.sizes)
    centres = ends - np.asarray(groups.sizes) / 2 - 0.5
    for matrix, (row, col) in zip(matrices.values(), places, strict=True):
        percent = np.round(100 * np.asarray(matrix)).astype(np.uint8)  # whole per cent keep a stored figure small
        hover = "class of rank %{y} taken for rank %{x}: %{z:.0f} %<extra></extra>"
        figure.add_trace(go.Heatmap(z=percent, coloraxis="coloraxis", hovertemplate=hover), row, col)
        figure.add_trace(_borders(ends[:-1] - 0.5, ends[-1]), row, col)
    ticks = {"tickvals": list(centres), "ticktext": list(groups.names)}
    figure.update_xaxes(**ticks).update_yaxes(**ticks)
    return _confusion_looks(figure, places, sum(groups.sizes), "linear", title=title, colours=FAINT_FIRST)


def _borders(ends, n):
    """Lines across n rows and columns where one group ends and the next begins: a trace, since a browser may draw the
    shapes of a layout before their axes."""
    low, high = -0.5, n - 0.5
    x = [v for end in ends for v in (low, high, None, end, end, None)]
    y = [v for end in ends for v in (end, end, None, low, high, None)]
    line = {"color": TEXT, "dash": "dot", "width": 1}
    return go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _confusion_looks(figure, places, n, kind, *, title, colours):
    """Panels of n rows and columns, about as wide as high on a page of 1100 pixels. Axes tied to each other would be
    exact, but a FigureWidget keeps their place when it shows another figure after this one."""
    wide = max((col for _, col in places), default=1)
    share = min(1.0, wide / SQUARES)
    for axis in figure.select_xaxes():
        axis.domain = [share * end for end in axis.domain]
    for heading in figure.layout.annotations:
        heading.x *= share
    style(figure, title=title, height=_height(places, 760 // max(wide, SQUARES)))
    bar = {
        "title": {"text": "% of a row's images", "side": "right"},
        "thickness": 14,
        "x": share,
        "xanchor": "left",
        "xpad": 20,
    }
    figure.update_layout(coloraxis={"colorscale": colours, "cmin": 0, "cmax": 100, "colorbar": bar})
    plain = {"type": kind, "showgrid": False, "zeroline": False}
    figure.update_xaxes(title="predicted", range=[-0.5, n - 0.5], **plain)
    figure.update_yaxes(range=[n - 0.5, -0.5], showticklabels=False, **plain)
    return figure.update_yaxes(title="true", automargin=True, showticklabels=True, col=1)


def _panels(titles, *, shared_yaxes=None):
    """An empty figure of panels in rows of at most ROW, and the (row, column) of each."""
    n = max(1, len(titles))
    wide = n if n <= ROW else math.ceil(n / math.ceil(n / ROW))
    rows = math.ceil(n / wide)
    gaps = {"horizontal_spacing": (0.12 if shared_yaxes else 0.25) / wide, "vertical_spacing": 0.3 / rows}
    figure = make_subplots(rows, wide, subplot_titles=titles or None, shared_yaxes=shared_yaxes or False, **gaps)
    return figure, [(1 + i // wide, 1 + i % wide) for i in range(len(titles))]


def _last_row(places):
    return max((row for row, _ in places), default=1)


def _height(places, row=260):
    return 120 + row * _last_row(places)


def _room(values, half):
    """Limits of an axis that leave room for the labels beside the points: zero, all values and their intervals."""
    half = half.fillna(0.0)
    low, high = min(0.0, (values - half).min()), max(0.0, (values + half).max())
    margin = 0.15 * (high - low) or 1.0
    return [float(low - margin), float(high + margin)]


VERDICT_COLOURS = {"holds": PALETTE[1], "does not hold": "#D55E00"}  # all else: grey


def differences(labels, means, halves, verdicts, *, title, x="difference, points"):
    """Differences with their intervals, one a line from top to bottom, coloured by what they say of a claim. labels,
    verdicts: texts; means, halves (n,): half-widths, NaN without an interval."""
    figure = go.Figure()
    for verdict in dict.fromkeys(verdicts):
        chosen = [i for i, each in enumerate(verdicts) if each == verdict]
        colour = VERDICT_COLOURS.get(verdict, TEXT)
        figure.add_scatter(
            x=[means[i] for i in chosen],
            y=[labels[i] for i in chosen],
            error_x={"array": [halves[i] for i in chosen], "color": colour},
            mode="markers",
            marker={"size": 10, "color": colour},
            name=verdict,
        )
    figure.add_vline(x=0, line_color=TEXT, line_width=1)
    style(figure, title=title, x=x, height=140 + 26 * len(labels))
    order = list(dict.fromkeys(labels))
    return figure.update_yaxes(automargin=True, categoryorder="array", categoryarray=order[::-1])
