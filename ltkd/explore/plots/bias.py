"""Figures of a network's bias: probability mass, accuracy and confidence by group of classes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from ...groups import ClassGroups
from ...metrics import Calibration
from ..batch_terms import Rebalancing
from .theme import TEXT, bar_text, group_colour, label_colour, panels, plain_text, style

MOST_POINTS = 400  # of a line: a browser can redraw it while a slider moves
FEW_BATCHES = 40  # up to this many, each batch has a marker


@plain_text
def mass_per_batch(
    masses: Mapping[str, ArrayLike], names: Sequence[str], *, title: str = "The teacher's group mass, batch by batch"
) -> go.Figure:
    """Group mass of each batch (LTKD, Fig. 3).

    masses: one to three {label: (n_batches, G)}; the second is the more balanced one, since a dotted line means
    balanced in all figures of group mass. names: of the G groups.
    """
    figure = go.Figure()
    for (label, values), dash in zip(masses.items(), ("solid", "dot", "dash")[: len(masses)], strict=True):
        mass = np.asarray(values)
        for g, name in enumerate(names):
            figure.add_scatter(
                x=np.arange(1, len(mass) + 1),
                y=mass[:, g],
                name=f"{name}, {label}",
                mode="lines+markers" if len(mass) <= FEW_BATCHES else "lines",  # more markers would hide the dashes
                marker={"size": 4},
                line={"color": group_colour(g), "dash": dash},
            )
    return style(figure, title=title, x="batch", y="summed probability of the group")


@plain_text
def rebalancing(
    batches: Rebalancing,
    names: Sequence[str],
    *,
    batch: int,
    title: str = "The teacher's group mass before and after Eq. 9 to 11",
) -> go.Figure:
    """The effect of LTKD's Eq. 9 to 11 on the batches of an epoch, and on one batch in detail.

    Left, for all batches: the summed probability of each group, teacher solid and rebalanced dotted, and the scaling
    factors of Eq. 10. Right, for one batch: the images of each group beside these sums.
    names: of the G groups; batch: the batch on the right, counted from 0.
    """
    figure = panels(
        2,
        2,
        ("summed probability of each batch", f"batch {batch + 1}", "scaling factors (Eq. 10)"),
        column_widths=[0.6, 0.4],
        row_heights=[0.62, 0.38],
        specs=[[{}, {"rowspan": 2}], [{}, None]],
        horizontal_spacing=0.08,
        vertical_spacing=0.13,
    )
    epoch = [*_lines(batches.teacher, names), *_lines(batches.rebalanced, names, dash="dot")]
    factors = [*_lines(batches.factors, names)]
    legend = [
        go.Scatter(x=[None], y=[None], name=label, mode="lines", line={"color": TEXT, "dash": dash})
        for label, dash in (("teacher", "solid"), ("rebalanced", "dot"))
    ]
    bars = _bars_of_batch(batches, names, batch)
    places = [(1, 1)] * len(epoch) + [(2, 1)] * len(factors) + [(1, 2)] * len(bars) + [(1, 1)] * 2
    figure.add_traces([*epoch, *factors, *bars, *legend], *(list(place) for place in zip(*places, strict=True)))
    style(figure, title=title, height=540)
    chosen = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": batch + 1, "x1": batch + 1, "xref": "x"}
    figure.update_layout(shapes=[chosen | {"line": {"color": TEXT, "width": 1}}])
    figure.update_yaxes(rangemode="tozero")
    return figure.update_xaxes(title={"text": "batch", "standoff": 6}, row=2, col=1)


def _lines(values: np.ndarray, names: Sequence[str], dash: str = "solid") -> Iterator[go.Scatter]:
    """One line per group over the batches, with at most MOST_POINTS points; values (n_batches, G)."""
    every = np.arange(0, len(values), -(-len(values) // MOST_POINTS))
    for g, name in enumerate(names):
        line = {"color": group_colour(g), "dash": dash, "width": 1.5}
        more = {"name": name, "legendgroup": name, "showlegend": False, "mode": "lines"}
        yield go.Scatter(x=every + 1, y=values[every, g], line=line, **more)


def _bars_of_batch(batches: Rebalancing, names: Sequence[str], batch: int) -> list[go.Bar]:
    """Bars of one batch: the images of each group, the teacher's mass, and the rebalanced mass."""
    stages = {"images": batches.images, "teacher": batches.teacher, "rebalanced": batches.rebalanced}
    text = bar_text("%{y:.1f}" if len(names) <= 4 else None)
    return [
        go.Bar(
            x=list(stages),
            y=[float(values[batch, g]) for values in stages.values()],
            name=name,
            legendgroup=name,
            marker_color=group_colour(g),
            **text,
        )
        for g, name in enumerate(names)
    ]


@plain_text
def mass_by_temperature(
    temperatures: Sequence[float],
    masses: ArrayLike,
    groups: ClassGroups,
    *,
    marked: float | None = None,
    title: str = "The teacher's group mass on balanced images",
) -> go.Figure:
    """Mean group mass against temperature; a dotted line is the group's share of the classes.

    masses (n_temperatures, G): from 0 to 1; marked: a temperature to mark with a vertical line.
    """
    figure = go.Figure()
    for g, name in enumerate(groups.names):
        line, fair = {"color": group_colour(g)}, groups.sizes[g] / groups.n_classes
        figure.add_scatter(x=temperatures, y=np.asarray(masses)[:, g], name=name, mode="lines", line=line)
        ends, dotted = [temperatures[0], temperatures[-1]], line | {"dash": "dot"}
        figure.add_scatter(x=ends, y=[fair, fair], name=f"{name}, share of classes", mode="lines", line=dotted)
    if marked is not None:
        figure.add_vline(x=marked, line_dash="dash", line_color=TEXT, annotation_text=f"T = {marked:g}")
    return style(figure, title=title, x="temperature", y="mean probability of the group")


@plain_text
def grouped_bars(
    values: Mapping[str, Mapping[str, float]],
    *,
    y: str,
    title: str,
    errors: Mapping[str, Mapping[str, float | None]] | None = None,
    text: str = "%{y:.1f}",
    colours: Sequence[str] | None = None,
) -> go.Figure:
    """Bars by group (x axis) and label (colour).

    values: {label: {group: value}}; errors: half-widths of the intervals, of the same form; text: plotly's template of
    the number on a bar, drawn without errors only; colours: one per label, by default those of `label_colour`.
    """
    figure = go.Figure()
    for i, (label, by_group) in enumerate(values.items()):
        figure.add_bar(
            x=list(by_group),
            y=list(by_group.values()),
            name=label,
            marker_color=colours[i % len(colours)] if colours else label_colour(label, i),
            error_y=None if errors is None else {"array": list(errors[label].values()), "color": TEXT},
            texttemplate=text if errors is None else None,
        )
    return style(figure, title=title, y=y, barmode="group")


@plain_text
def group_bars(by_group: Mapping[str, float], *, y: str, title: str, text: str = "%{y:.1f}") -> go.Figure:
    """One bar per group, in the group's colour. by_group: {group: value}, the groups in order."""
    figure = go.Figure()
    for g, (name, value) in enumerate(by_group.items()):
        figure.add_bar(x=[name], y=[value], marker_color=group_colour(g), texttemplate=text, showlegend=False)
    return style(figure, title=title, y=y)


@plain_text
def prior(
    class_counts: ArrayLike,
    mean_probability: np.ndarray,
    groups: ClassGroups,
    slope: float,
    *,
    title: str | None = None,
) -> go.Figure:
    """Mean probability of a class on balanced images against its training images, on logarithmic axes.

    class_counts, mean_probability (C,); slope: of the line through them, see metrics.prior_slope; title: names the
    slope unless given.
    """
    counts, index = np.asarray(class_counts), groups.index.numpy()
    figure = go.Figure()
    for g, name in enumerate(groups.names):
        marker = {"color": group_colour(g), "size": 9}
        members = index == g
        x, y = counts[members], mean_probability[members]
        figure.add_scatter(x=x, y=y, name=name, mode="markers", marker=marker)
    centre = np.log(counts).mean(), np.log(mean_probability).mean()
    ends = np.array([counts.min(), counts.max()])
    fit = np.exp(centre[1] + slope * (np.log(ends) - centre[0]))
    line = {"color": TEXT, "dash": "dash"}
    figure.add_scatter(x=ends, y=fit, name=f"slope {slope:.2f}", mode="lines", line=line)
    usual = f"The class prior shows in the probabilities: slope {slope:.2f}"
    style(figure, title=usual if title is None else title, x="training images of the class", y="mean probability")
    return figure.update_xaxes(type="log").update_yaxes(type="log")


@plain_text
def calibration(by_group: Mapping[str, Calibration], *, title: str = "How sure, and how often right?") -> go.Figure:
    """Accuracy beside confidence, and reliability curves. by_group: {'all': ..., group: ...}; 'all' is grey."""
    headings = ("accuracy (full) and confidence (hatched), %", "confidence against accuracy, %")
    figure = panels(1, 2, headings, horizontal_spacing=0.11)
    diagonal = go.Scatter(x=[0, 100], y=[0, 100], name="calibrated", mode="lines", line={"color": TEXT, "dash": "dot"})
    bars: list[go.Bar] = []
    curves: list[go.Scatter] = [diagonal]
    for g, (name, group) in enumerate(by_group.items()):
        colour = TEXT if name == "all" else group_colour(g - 1)
        bars.append(_calibration_bar(name, group.accuracy, "accuracy", {"color": colour}))
        hatched = {
            "color": "rgba(0,0,0,0)",
            "pattern": {"shape": "/", "fgcolor": colour},
            "line": {"color": colour, "width": 2},
        }
        bars.append(_calibration_bar(name, group.confidence, "confidence", hatched))
        confidence, accuracy, share = (100 * values for values in group.curve)
        curves.append(
            go.Scatter(
                x=confidence,
                y=accuracy,
                name=f"{name}: off by {group.error:.1f} points",
                mode="lines+markers",
                connectgaps=True,
                line={"color": colour},
                marker={"size": 5 + 2.5 * np.sqrt(share)},
            )
        )
    figure.add_traces([*bars, *curves], [1] * (len(bars) + len(curves)), [1] * len(bars) + [2] * len(curves))
    style(figure, title=title, height=480, barmode="group")
    figure.update_yaxes(range=[0, 108], tickvals=[0, 20, 40, 60, 80, 100])
    figure.update_yaxes(title={"text": "accuracy, %", "standoff": 6}, row=1, col=2)
    return figure.update_xaxes(title={"text": "confidence, %", "standoff": 6}, range=[0, 103], row=1, col=2)


def _calibration_bar(name: str, value: float, what: str, marker: dict[str, Any]) -> go.Bar:
    """One bar of a group; what: 'accuracy' or 'confidence'."""
    hover = f"{what} on %{{x}}: %{{y:.1f}} %<extra></extra>"
    look = {"marker": marker, "offsetgroup": what, "showlegend": False, "hovertemplate": hover}
    return go.Bar(x=[name], y=[value], **look, **bar_text("%{y:.0f}"))


@plain_text
def spread(
    sizes: Sequence[float], values: Sequence[np.ndarray], names: Sequence[str], *, x: str, y: str, title: str
) -> go.Figure:
    """Points that show the spread of a number of each group, on a logarithmic x axis.

    sizes (n,): positions on x; values: n arrays (k, G), one per position; names: of the G groups.
    """
    figure = go.Figure()
    for g, name in enumerate(names):
        xs = np.concatenate([np.full(len(v), size) for size, v in zip(sizes, values, strict=True)])
        ys = np.concatenate([np.asarray(v)[:, g] for v in values])
        marker = {"color": group_colour(g), "size": 6, "opacity": 0.6}
        figure.add_scatter(x=xs, y=ys, name=name, mode="markers", marker=marker)
    style(figure, title=title, x=x, y=y)
    return figure.update_xaxes(type="log", tickvals=list(sizes))
