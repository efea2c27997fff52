"""Figures of what a network says of groups of classes: mass, confidence, confusion."""

import numpy as np
import plotly.graph_objects as go

from .looks import TEXT, group_colour, label_colour, style


def mass_per_batch(masses, names, *, title="The teacher's group mass, batch by batch"):
    """Group mass of each batch (LTKD, Fig. 3). masses: {label: (n_batches, G)}, the first dotted, the second solid."""
    figure = go.Figure()
    for (label, mass), dash in zip(masses.items(), ("dot", "solid", "dash", "dashdot"), strict=False):
        for g, name in enumerate(names):
            figure.add_scatter(
                x=np.arange(1, len(mass) + 1),
                y=np.asarray(mass)[:, g],
                name=f"{name}, {label}",
                mode="lines+markers",
                marker={"size": 4},
                line={"color": group_colour(g), "dash": dash},
            )
    return style(figure, title=title, x="batch", y="summed probability of the group")


def mass_by_temperature(
    temperatures, masses, groups, *, marked=None, title="The teacher's group mass on balanced images"
):
    """Mean group mass against temperature, and dotted what a fair teacher would give: each group's share of the
    classes. masses (n_temperatures, G), in 0 to 1; marked: a temperature to point at."""
    figure = go.Figure()
    for g, name in enumerate(groups.names):
        line, fair = {"color": group_colour(g)}, groups.sizes[g] / groups.n_classes
        figure.add_scatter(x=temperatures, y=np.asarray(masses)[:, g], name=name, mode="lines", line=line)
        ends, dotted = [temperatures[0], temperatures[-1]], line | {"dash": "dot"}
        figure.add_scatter(x=ends, y=[fair, fair], name=f"{name}, fair", mode="lines", line=dotted)
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


def reliability(curves, *, title="Confidence against accuracy"):
    """Reliability curves. curves: {group: (confidence, accuracy, share)}, as evaluation.reliability gives them."""
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], name="calibrated", mode="lines", line={"color": TEXT, "dash": "dot"})
    for g, (name, (confidence, accuracy, share)) in enumerate(curves.items()):
        figure.add_scatter(
            x=confidence,
            y=accuracy,
            name=name,
            mode="lines+markers",
            connectgaps=True,
            line={"color": group_colour(g)},
            marker={"size": 5 + 25 * np.sqrt(share)},
        )
    return style(figure, title=title, x="confidence", y="accuracy", height=420)


def confusion(matrix, names, *, title="Where do the images of a group go?"):
    """A confusion matrix of shares. matrix (G, G), rows are true groups."""
    percent = 100 * np.asarray(matrix)
    text = "%{z:.0f} %" if len(names) <= 20 else None
    figure = go.Figure(
        go.Heatmap(z=percent, x=list(names), y=list(names), texttemplate=text, colorscale="Blues", zmin=0, zmax=100)
    )
    style(figure, title=title, x="predicted", y="true", height=400)
    return figure.update_yaxes(autorange="reversed")


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
