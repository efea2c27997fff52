"""Figures of runs: curves over epochs, group mass of batches, accuracy, confusion, and differences between methods."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from plotly.subplots import make_subplots

from ...groups import ClassGroups
from ...methods import METHODS
from ...metrics import from_most_to_fewest
from .theme import PALETTE, STUDENT_LINE, TEACHER_LINE, TEXT, group_colour, label_colour, plain_text, style

if TYPE_CHECKING:
    import pandas as pd

PANELS_PER_ROW = 4  # more would be too narrow to read on a projector
MATRICES_PER_ROW = 3  # fewer matrices leave the rest of the row empty
FIRST_OTHER = 9  # the first colour of the methods' palette for other names, such as a second teacher
MOST_POINTS = 1000  # of a line: a browser can redraw it while a slider moves
VERDICT_COLOURS = {"holds": PALETTE[1], "does not hold": "#D55E00"}  # others are grey
# A colour scale for class confusions: mistakes are spread over many classes, so most shares are small.
STEEP_BLUES = ((0, "#f7fbff"), (0.05, "#c6dbef"), (0.2, "#6baed6"), (0.5, "#2171b5"), (1, "#08306b"))

Place = tuple[int, int]  # row and column of a panel, counted from 1


@plain_text
def curves(
    histories: Mapping[str, "pd.DataFrame"], columns: Mapping[str, str], *, y: str, title: str, shared: bool = True
) -> go.Figure:
    """Curves over epochs, one panel per column.

    histories: {label: Run.history}; columns: {column: title of its panel}; shared: all panels have the same y axis.
    Runs without a column and epochs without a value are skipped.
    """
    figure, places = _panels(list(columns.values()), shared_yaxes="all" if shared else None)
    looks = lines_of(histories)
    traces: list[go.Scatter] = []
    where: list[Place] = []
    listed: set[str] = set()
    for label, history in histories.items():
        for column, place in zip(columns, places, strict=True):
            if column not in history:
                continue
            known = history[column].notna()
            setting = _without_seed(label)  # the legend names a setting once, for all its seeds and panels
            look = {"legendgroup": setting, "showlegend": setting not in listed, "line": looks[label]}
            mode = "lines+markers" if known.sum() == 1 else "lines"  # a line of one point is invisible
            x, y_values = history["epoch"][known].to_numpy(float), history[column][known].to_numpy(float)
            traces.append(go.Scatter(x=x, y=y_values, mode=mode, name=setting, **look))
            where.append(place)
            listed.add(setting)
    if traces:
        figure.add_traces(traces, *map(list, zip(*where, strict=True)))
    style(figure, title=title, height=_height(places))
    figure.update_xaxes(title="epoch", row=_last_row(places))
    return figure.update_yaxes(title=y, col=1)


def lines_of(labels: Collection[str]) -> dict[str, dict[str, Any]]:
    """The line of each run: {label: plotly's properties of its line}.

    A teacher's line is solid, a student's dashed. Settings with the same colour, such as one method with two weights,
    differ in their dashes. All seeds of a setting have the same line.
    """
    looks: dict[str, dict[str, Any]] = {}
    used: dict[str, int] = {}
    for setting, colour in colours_of(map(_without_seed, labels)).items():
        own = TEACHER_LINE if "teacher" in setting else STUDENT_LINE
        dashes = (own, "dot", "dashdot", "longdashdot", "longdash")
        looks[setting] = {"color": colour, "dash": dashes[used.get(colour, 0) % len(dashes)], "width": 2}
        used[colour] = used.get(colour, 0) + 1
    return {label: looks[_without_seed(label)] for label in labels}


def colours_of(settings: Iterable[str]) -> dict[str, str]:
    """{setting: colour}: that of its method, grey for a teacher, and one that few methods use for any other name."""
    settings, known = list(dict.fromkeys(settings)), {"teacher", *METHODS}
    others = [setting for setting in settings if setting.split(" ")[0].lower() not in known]
    return {s: label_colour(s, FIRST_OTHER + others.index(s) if s in others else 0) for s in settings}


def _without_seed(label: object) -> str:
    return re.sub(r" seed \d+$", "", str(label))


@plain_text
def mass_before_after(
    masses: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str], *, title: str
) -> go.Figure:
    """The teacher's group mass of each batch before (solid) and after (dotted) rebalancing (LTKD, Eq. 9 to 11).

    masses: {title of its panel: (before (n_batches, G), after (n_batches, G))}; names: of the G groups.
    """
    figure, places = _panels(list(masses), shared_yaxes="all")
    for pair, (row, col) in zip(masses.values(), places, strict=True):
        for mass, when, dash in zip(pair, ("before", "after"), ("solid", "dot"), strict=True):
            batches = np.arange(0, len(mass), math.ceil(len(mass) / MOST_POINTS) or 1)
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
    lines = max((label.count("\n") for label in masses), default=0)  # further lines of the panels' titles
    style(figure, title=title, height=_height(places) + 18 * lines)
    figure.update_layout(margin_t=66 + 18 * lines, title={"yref": "container", "y": 1, "yanchor": "top", "pad_t": 14})
    figure.update_xaxes(title="batch", row=_last_row(places))
    return figure.update_yaxes(title="summed probability of the group", col=1, rangemode="tozero")


@plain_text
def trade(
    summary: "pd.DataFrame",
    baseline: str,
    *,
    by: str = "method",
    title: str = "What the tail gained, what the head paid",
) -> go.Figure:
    """Head and tail accuracy of each method minus those of a baseline, in points.

    summary: from `runs.summarise`; by: the column with the names of its rows; baseline: one of these names. Rows of
    several seeds have 95 % intervals.
    """
    base = summary[summary[by] == baseline].iloc[0]
    cost, gain = summary["head"] - base["head"], summary["tail"] - base["tail"]
    limits, colours = _axis_range(cost, summary["head_ci"]), colours_of(summary[by])
    figure = go.Figure()
    for i, (name, x, y, row) in enumerate(zip(summary[by], cost, gain, summary.itertuples(), strict=True)):
        side = "right" if x < sum(limits) / 2 else "left"  # towards the middle, where the text fits
        figure.add_scatter(
            x=[x],
            y=[y],
            error_x=_error_bar(row.head_ci),
            error_y=_error_bar(row.tail_ci),
            mode="markers+text",
            text=[name],
            textposition=f"{('top', 'bottom')[i % 2]} {side}",  # so the texts of neighbours do not overlap
            cliponaxis=False,
            marker={"size": 12, "color": colours[name]},
            name=name,
            showlegend=False,
        )
    figure.add_hline(y=0, line_color=TEXT, line_width=1).add_vline(x=0, line_color=TEXT, line_width=1)
    x = f"head accuracy minus {baseline}'s, points"
    style(figure, title=title, x=x, y=f"tail accuracy minus {baseline}'s, points", height=430)
    figure.update_xaxes(range=limits, zeroline=False)
    return figure.update_yaxes(range=_axis_range(gain, summary["tail_ci"]), zeroline=False)


def _error_bar(half: float) -> dict[str, Any] | None:
    """An error bar; None for one seed, whose half-width is NaN."""
    return {"array": [half], "color": TEXT, "thickness": 1} if np.isfinite(half) else None


@plain_text
def accuracy_by_size(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]],
    groups: ClassGroups,
    class_counts: np.ndarray,
    *,
    dots: Mapping[str, ArrayLike] | None = None,
    title: str = "Accuracy against the size of a class",
) -> go.Figure:
    """Test accuracy in per cent against the training images of a class, on a logarithmic axis.

    curves: {label: (training images (n,), accuracy (n,), half-width of its interval (n,) or NaN)}, the first two from
    metrics.accuracy_by_size; dots: {label: accuracy of each class (C,)}, drawn behind; groups, class_counts (C,): the
    borders of the groups on the axis.
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
    _mark_groups(figure, groups, class_counts)
    return figure


def _mark_groups(figure: go.Figure, groups: ClassGroups, class_counts: np.ndarray) -> None:
    """Name each group above its classes on the logarithmic axis, and draw a line between two groups."""
    index, order = groups.index.numpy(), from_most_to_fewest(class_counts)
    logs = np.log10(np.maximum(class_counts, 1))
    for g, name in enumerate(groups.names):
        centre = float(logs[index == g].mean())
        look = {"font": {"color": group_colour(g)}, "showarrow": False, "yref": "paper", "yanchor": "bottom"}
        figure.add_annotation(x=centre, y=1.0, text=name, **look)
    for place in np.flatnonzero(np.diff(index[order])):
        border = 10 ** float(logs[order[place : place + 2]].mean())
        figure.add_vline(x=border, line_color=TEXT, line_dash="dot", line_width=1)


@plain_text
def group_confusions(
    matrices: Mapping[str, ArrayLike], names: Sequence[str], *, title: str = "Where do the images of a group go?"
) -> go.Figure:
    """Confusion matrices of the groups, one panel per matrix.

    matrices: {label: (G, G)}, see metrics.group_confusion; names: of the G groups.
    """
    figure, places = _panels(list(matrices))
    text = "%{z:.0f}" if len(names) <= 5 else None
    for matrix, (row, col) in zip(matrices.values(), places, strict=True):
        heat = go.Heatmap(
            z=100 * np.asarray(matrix), x=list(names), y=list(names), texttemplate=text, coloraxis="coloraxis"
        )
        figure.add_trace(heat, row, col)
    return _style_confusions(figure, places, len(names), "category", title=title, colours="Blues")


@plain_text
def class_confusions(
    matrices: Mapping[str, ArrayLike],
    groups: ClassGroups,
    *,
    title: str = "Confusion of all classes, from most to fewest training images",
) -> go.Figure:
    """Confusion matrices of all classes (BKD, Fig. 2), one panel per matrix.

    matrices: {label: (C, C)}, see metrics.sorted_confusion; groups: by rank.
    """
    figure, places = _panels(list(matrices))
    ends = np.cumsum(groups.sizes)
    centres = ends - np.asarray(groups.sizes) / 2 - 0.5
    for matrix, (row, col) in zip(matrices.values(), places, strict=True):
        percent = np.round(100 * np.asarray(matrix)).astype(np.uint8)  # whole per cent keep a stored figure small
        hover = "class of rank %{y} predicted as rank %{x}: %{z:.0f} %<extra></extra>"
        figure.add_trace(go.Heatmap(z=percent, coloraxis="coloraxis", hovertemplate=hover), row, col)
        figure.add_trace(_group_borders(ends[:-1] - 0.5, ends[-1]), row, col)
    ticks = {"tickvals": list(centres), "ticktext": list(groups.names)}
    figure.update_xaxes(**ticks).update_yaxes(**ticks)
    return _style_confusions(figure, places, sum(groups.sizes), "linear", title=title, colours=STEEP_BLUES)


def _group_borders(ends: np.ndarray, n: int) -> go.Scatter:
    """Lines between the groups, across n rows and columns: a trace, as a browser may draw shapes before their axes."""
    low, high = -0.5, n - 0.5
    x = [v for end in ends for v in (low, high, None, end, end, None)]
    y = [v for end in ends for v in (end, end, None, low, high, None)]
    line = {"color": TEXT, "dash": "dot", "width": 1}
    return go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _style_confusions(
    figure: go.Figure, places: Sequence[Place], n: int, kind: str, *, title: str, colours: str | Sequence
) -> go.Figure:
    """Style panels with matrices of n rows and columns; kind: plotly's type of their axes.

    The panels are about square on a page 1100 pixels wide. Axes with a fixed ratio would be exactly square, but then a
    FigureWidget keeps their positions when it shows another figure.
    """
    wide = max((col for _, col in places), default=1)
    share = min(1.0, wide / MATRICES_PER_ROW)
    for axis in figure.select_xaxes():
        axis.domain = [share * end for end in axis.domain]
    for heading in figure.layout.annotations:
        heading.x *= share
    style(figure, title=title, height=_height(places, 760 // max(wide, MATRICES_PER_ROW)))
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


def _panels(titles: Sequence[str], *, shared_yaxes: str | None = None) -> tuple[go.Figure, list[Place]]:
    """An empty figure with one panel per title, at most PANELS_PER_ROW in a row, and the place of each."""
    n = max(1, len(titles))
    rows = math.ceil(n / PANELS_PER_ROW)
    wide = math.ceil(n / rows)
    gaps = {"horizontal_spacing": (0.12 if shared_yaxes else 0.25) / wide, "vertical_spacing": 0.3 / rows}
    figure = make_subplots(rows, wide, subplot_titles=titles or None, shared_yaxes=shared_yaxes or False, **gaps)
    return figure, [(1 + i // wide, 1 + i % wide) for i in range(len(titles))]


def _last_row(places: Sequence[Place]) -> int:
    return max((row for row, _ in places), default=1)


def _height(places: Sequence[Place], row: int = 260) -> int:
    return 120 + row * _last_row(places)


def _axis_range(values: "pd.Series", half: "pd.Series") -> list[float]:
    """The range of an axis with zero, all values, their intervals, and a margin for the texts beside the points."""
    half = half.fillna(0.0)
    low, high = min(0.0, (values - half).min()), max(0.0, (values + half).max())
    margin = 0.15 * (high - low) or 1.0
    return [float(low - margin), float(high + margin)]


@plain_text
def differences(
    labels: Sequence[str],
    means: Sequence[float],
    halves: Sequence[float],
    verdicts: Sequence[str],
    *,
    title: str,
    x: str = "difference, points",
) -> go.Figure:
    """Differences with their intervals, one per line from top to bottom, coloured by the verdict on their claim.

    labels, means, halves, verdicts: (n,) each; halves: half-widths of the intervals, NaN without one.
    """
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
