"""Figures of long-tailed data: counts, profiles, groups and the images themselves."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .looks import group_colour, style


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
