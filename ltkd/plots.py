"""Figures: pure functions from numbers to plotly figures. One colour a group, one line style a network, everywhere."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .methods import METHODS

# Okabe and Ito's colours, which colour-blind readers can tell apart: head, medium, tail, then further groups.
PALETTE = ("#E69F00", "#009E73", "#0072B2", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
# The teacher's, then the methods' in their order; the first eight differ for colour-blind readers too.
METHOD_PALETTE = (
    *("#8c8c8c", "#D55E00", "#CC79A7", "#56B4E9", "#7B61D9", "#B5651D", "#999933", "#117733", "#882255", "#44AA99"),
    *("#DDAA33", "#CC6677", "#6699CC", "#AA4499", "#5DA271", "#C48A00", "#8C8CFF", "#E377C2", "#17BECF", "#BCBD22"),
    "#B07AA1",
)
TEACHER_LINE, STUDENT_LINE = "solid", "dash"
TEXT = "#6b7280"  # a grey that reads on a light and on a dark page
GRID = "rgba(128,128,128,0.25)"


def style(figure, *, title, x="", y="", height=380, **layout):
    """The house style: a title that says what to see, named axes, room for both themes."""
    figure.update_layout(
        title={"text": title, "font": {"size": 15}, "x": 0.01, "xanchor": "left"},
        height=height,
        margin={"l": 60, "r": 20, "t": 60, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": TEXT, "size": 13},
        colorway=PALETTE,
        template="none",  # the default template would add 7 kB to every stored figure
        legend={"bgcolor": "rgba(0,0,0,0)"},
        **layout,
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID, linecolor=TEXT)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, linecolor=TEXT)
    if x:
        figure.update_xaxes(title=x)
    if y:
        figure.update_yaxes(title=y)
    return figure


def group_colour(g):
    """The colour of the g-th group."""
    return PALETTE[g % len(PALETTE)]


def label_colour(label, position):
    """The colour of a curve or bar: a method's own wherever its name begins the label, else by position. The teacher's
    grey is nobody else's."""
    names = ["teacher", *METHODS]
    first = str(label).split(" ")[0].lower()
    place = names.index(first) if first in names else position
    return METHOD_PALETTE[place if place == 0 else 1 + (place - 1) % (len(METHOD_PALETTE) - 1)]


# --- data --------------------------------------------------------------------------------------------------------


def counts(class_counts, groups, *, class_names=None, log=False, title="Training images of each class"):
    """Bars of the training images of each class, coloured by group. class_counts (C,)."""
    class_counts, index = np.asarray(class_counts), groups.index.numpy()
    names = np.asarray(class_names if class_names is not None else np.arange(len(class_counts)).astype(str))
    figure = go.Figure()
    for g, name in enumerate(groups.names):
        members = np.flatnonzero(index == g)
        figure.add_bar(
            x=members,
            y=class_counts[members],
            name=name,
            marker_color=group_colour(g),
            customdata=names[members],
            hovertemplate="class %{customdata}: %{y} images<extra></extra>",
        )
    style(figure, title=title, x="class", y="images", bargap=0.15)
    if log:
        figure.update_yaxes(type="log", title="images, log scale")
    return figure


def counts_twice(class_counts, groups):
    """The same counts on a linear and on a logarithmic axis, side by side."""
    figure = make_subplots(1, 2, subplot_titles=("linear axis", "logarithmic axis"))
    for column in (1, 2):
        for trace in counts(class_counts, groups).data:
            trace.showlegend = column == 1
            figure.add_trace(trace, 1, column)
    figure.update_yaxes(type="log", row=1, col=2)
    return style(figure, title="One profile, two axes", x="class", y="images", bargap=0.15)


def profiles(by_name, *, log=True, title="Images kept of each class"):
    """One line a profile. by_name: {name: counts (C,)}."""
    figure = go.Figure()
    for name, values in by_name.items():
        figure.add_scatter(x=np.arange(len(values)), y=np.asarray(values), name=name, mode="lines+markers")
    style(figure, title=title, x="class", y="images")
    figure.update_yaxes(type="log" if log else "linear")
    return figure


def partitions(by_name, *, title="Which classes are the tail?"):
    """One strip of coloured classes a definition. by_name: {definition: ClassGroups}; group names in the hover."""
    figure = go.Figure()
    colours = {"head": 0, "many": 0, "medium": 1, "tail": 2, "few": 2}
    for row, groups in enumerate(by_name.values()):
        index = groups.index.numpy()
        for g, name in enumerate(groups.names):
            members = np.flatnonzero(index == g)
            figure.add_bar(
                x=members,
                y=np.full(len(members), 0.8),
                base=np.full(len(members), row - 0.4),
                name=name,
                marker_color=group_colour(colours.get(name, g)),
                legendgroup=name,
                showlegend=row == 0 or name not in ("head", "medium", "tail"),
                hovertemplate=f"class %{{x}}: {name}<extra></extra>",
            )
    style(figure, title=title, x="class, from most to fewest images", bargap=0.05, barmode="overlay", height=330)
    figure.update_yaxes(tickvals=list(range(len(by_name))), ticktext=list(by_name), title="")
    return figure


def contact_sheet(images, *, columns=10, title=""):
    """Images in a grid. images: uint8 (N, channels, side, side), grey or colour."""
    images = np.asarray(images)
    n, channels, side, _ = images.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    sheet = np.full((rows * (side + 1), columns * (side + 1), channels), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (side + 1), (i % columns) * (side + 1)
        sheet[top : top + side, left : left + side] = image.transpose(1, 2, 0)
    sheet = sheet.repeat(3, axis=2) if channels == 1 else sheet
    figure = go.Figure(go.Image(z=sheet, hoverinfo="skip"))
    style(figure, title=title, height=90 + 60 * rows)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 10})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


# --- the teacher's bias ------------------------------------------------------------------------------------------


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


# --- the decomposition and the losses ----------------------------------------------------------------------------


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


# --- runs --------------------------------------------------------------------------------------------------------


def curves(histories, columns, *, y, title, shared=True):
    """Curves over epochs, one panel a column. histories: {label: DataFrame, as Run.history}; columns: {column: panel
    title}; runs without a column, and epochs without a value, are passed over. shared: one scale for all panels."""
    figure = make_subplots(
        1, len(columns), subplot_titles=list(columns.values()), shared_yaxes="all" if shared else None
    )
    for i, (label, history) in enumerate(histories.items()):
        for position, column in enumerate(columns, start=1):
            if column not in history:
                continue
            known = history[["epoch", column]].dropna()
            figure.add_scatter(
                x=known["epoch"],
                y=known[column],
                name=label,
                legendgroup=label,
                showlegend=position == 1,
                mode="lines",
                line={"color": label_colour(label, i)},
                row=1,
                col=position,
            )
    style(figure, title=title, x="epoch")
    return figure.update_yaxes(title=y, col=1)


def trade(summary, baseline, *, title="What the tail gained, what the head paid"):
    """Each method's mean head and tail accuracy against a baseline method's. summary: rows of `runs.summarise`."""
    base = summary[summary["method"] == baseline].iloc[0]
    figure = go.Figure()
    for i, row in enumerate(summary.itertuples()):
        figure.add_scatter(
            x=[row.head - base["head"]],
            y=[row.tail - base["tail"]],
            error_x={"array": [row.head_ci], "color": TEXT, "thickness": 1},
            error_y={"array": [row.tail_ci], "color": TEXT, "thickness": 1},
            mode="markers+text",
            text=[row.method],
            textposition="top right",
            marker={"size": 12, "color": label_colour(row.method, i)},
            name=row.method,
            showlegend=False,
        )
    figure.add_hline(y=0, line_color=TEXT, line_width=1).add_vline(x=0, line_color=TEXT, line_width=1)
    x = f"head accuracy minus {baseline}'s, points"
    return style(figure, title=title, x=x, y=f"tail accuracy minus {baseline}'s, points", height=430)
