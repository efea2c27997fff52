"""Figures of what a network says of groups of classes: mass, confidence, confusion."""

import numpy as np
import plotly.graph_objects as go

from .theme import TEXT, group_colour, label_colour, panels, plain_text, style

MOST_POINTS = 400  # of a line; a browser redraws that many while a slider moves
FEW_BATCHES = 40


def mass_per_batch(masses, names, *, title="The teacher's group mass, batch by batch"):
    """Group mass of each batch (LTKD, Fig. 3). masses: {label: (n_batches, G)}, one to three, the more balanced one
    second: dotted is balanced, here as in all figures of group mass."""
    figure = go.Figure()
    for (label, mass), dash in zip(masses.items(), ("solid", "dot", "dash")[: len(masses)], strict=True):
        for g, name in enumerate(names):
            figure.add_scatter(
                x=np.arange(1, len(mass) + 1),
                y=np.asarray(mass)[:, g],
                name=f"{name}, {label}",
                mode="lines+markers" if len(mass) <= FEW_BATCHES else "lines",  # more marks would hide the dots
                marker={"size": 4},
                line={"color": group_colour(g), "dash": dash},
            )
    return style(figure, title=title, x="batch", y="summed probability of the group")


def rebalancing(batches, names, *, batch, title="The teacher's group mass before and after Eq. 9 to 11"):
    """An epoch of batches, and one of them in full. batches: batch_terms.Rebalancing; batch: which one, from 0.

    Left, over the epoch: each group's summed probability, the teacher's solid and rebalanced dotted, and the scaling
    factors of Eq. 10. Right, of the one batch: the images of each group beside these sums.
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
    bars = _stages(batches, names, batch)
    places = [(1, 1)] * len(epoch) + [(2, 1)] * len(factors) + [(1, 2)] * len(bars) + [(1, 1)] * 2
    figure.add_traces([*epoch, *factors, *bars, *legend], *(list(place) for place in zip(*places, strict=True)))
    style(figure, title=title, height=540)
    chosen = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": batch + 1, "x1": batch + 1, "xref": "x"}
    figure.update_layout(shapes=[chosen | {"line": {"color": TEXT, "width": 1}}])
    figure.update_yaxes(rangemode="tozero")
    return figure.update_xaxes(title={"text": "batch", "standoff": 6}, row=2, col=1)


def _lines(values, names, dash="solid"):
    """One line a group over the batches; values (n, G)."""
    every = np.arange(0, len(values), -(-len(values) // MOST_POINTS))
    for g, name in enumerate(names):
        line = {"color": group_colour(g), "dash": dash, "width": 1.5}
        more = {"name": name, "legendgroup": name, "showlegend": False, "mode": "lines"}
        yield go.Scatter(x=every + 1, y=values[every, g], line=line, **more)


def _stages(batches, names, batch):
    """Bars of one batch: the images of each group, the teacher's mass, and the rebalanced mass."""
    stages = {"images": batches.images, "teacher": batches.teacher, "rebalanced": batches.rebalanced}
    text = plain_text("%{y:.1f}" if len(names) <= 4 else None)
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


def mass_by_temperature(
    temperatures, masses, groups, *, marked=None, title="The teacher's group mass on balanced images"
):
    """Mean group mass against temperature, and dotted each group's share of the classes. masses (n_temperatures, G), in
    0 to 1; marked: a temperature to point at."""
    figure = go.Figure()
    for g, name in enumerate(groups.names):
        line, fair = {"color": group_colour(g)}, groups.sizes[g] / groups.n_classes
        figure.add_scatter(x=temperatures, y=np.asarray(masses)[:, g], name=name, mode="lines", line=line)
        ends, dotted = [temperatures[0], temperatures[-1]], line | {"dash": "dot"}
        figure.add_scatter(x=ends, y=[fair, fair], name=f"{name}, share of classes", mode="lines", line=dotted)
    if marked is not None:
        figure.add_vline(x=marked, line_dash="dash", line_color=TEXT, annotation_text=f"T = {marked:g}")
    return style(figure, title=title, x="temperature", y="mean probability of the group")


def grouped_bars(values, *, y, title, errors=None, text="%{y:.1f}", colours=None):
    """Bars by group (x) and label (colour). values: {label: {group: value}}; errors: the same, half-widths."""
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


def group_bars(by_group, *, y, title, text="%{y:.1f}"):
    """One bar a group, in the group's colour. by_group: {group: value}, the groups in order."""
    figure = go.Figure()
    for g, (name, value) in enumerate(by_group.items()):
        figure.add_bar(x=[name], y=[value], marker_color=group_colour(g), texttemplate=text, showlegend=False)
    return style(figure, title=title, y=y)


def prior(class_counts, mean_probability, groups, slope):
    """Mean probability of a class over balanced images against its training images, both logarithmic, with the fitted
    slope. class_counts, mean_probability (C,)."""
    class_counts, index = np.asarray(class_counts), groups.index.numpy()
    figure = go.Figure()
    for g, name in enumerate(groups.names):
        marker = {"color": group_colour(g), "size": 9}
        members = index == g
        x, y = class_counts[members], mean_probability[members]
        figure.add_scatter(x=x, y=y, name=name, mode="markers", marker=marker)
    centre = np.log(class_counts).mean(), np.log(mean_probability).mean()
    ends = np.array([class_counts.min(), class_counts.max()])
    fit = np.exp(centre[1] + slope * (np.log(ends) - centre[0]))
    line = {"color": TEXT, "dash": "dash"}
    figure.add_scatter(x=ends, y=fit, name=f"slope {slope:.2f}", mode="lines", line=line)
    title = f"The class prior shows in the probabilities: slope {slope:.2f}"
    style(figure, title=title, x="training images of the class", y="mean probability")
    return figure.update_xaxes(type="log").update_yaxes(type="log")


def calibration(by_group, *, title="How sure, and how often right?"):
    """Accuracy beside confidence of each group, and reliability curves. by_group: {'all': metrics.Calibration,
    group: Calibration}; 'all' in grey."""
    headings = ("accuracy (full) and confidence (hatched), %", "confidence against accuracy, %")
    figure = panels(1, 2, headings, horizontal_spacing=0.11)
    diagonal = go.Scatter(x=[0, 100], y=[0, 100], name="calibrated", mode="lines", line={"color": TEXT, "dash": "dot"})
    bars, curves = [], [diagonal]
    for g, (name, group) in enumerate(by_group.items()):
        colour = TEXT if name == "all" else group_colour(g - 1)
        bars.append(_bar_of(name, group.accuracy, "accuracy", {"color": colour}))
        hatched = {
            "color": "rgba(0,0,0,0)",
            "pattern": {"shape": "/", "fgcolor": colour},
            "line": {"color": colour, "width": 2},
        }
        bars.append(_bar_of(name, group.confidence, "confidence", hatched))
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


def _bar_of(name, value, what, marker):
    """One bar of a group: its accuracy or its confidence."""
    hover = f"{what} on {name}: %{{y:.1f}} %<extra></extra>"
    look = {"marker": marker, "offsetgroup": what, "showlegend": False, "hovertemplate": hover}
    return go.Bar(x=[name], y=[value], **look, **plain_text("%{y:.0f}"))


def spread(sizes, values, names, *, x, y, title):
    """How a number a group scatters. sizes (n,): positions on x; values: list of (k, G) arrays, one a position."""
    figure = go.Figure()
    for g, name in enumerate(names):
        xs = np.concatenate([np.full(len(v), size) for size, v in zip(sizes, values, strict=True)])
        ys = np.concatenate([np.asarray(v)[:, g] for v in values])
        marker = {"color": group_colour(g), "size": 6, "opacity": 0.6}
        figure.add_scatter(x=xs, y=ys, name=name, mode="markers", marker=marker)
    style(figure, title=title, x=x, y=y)
    return figure.update_xaxes(type="log", tickvals=list(sizes))
