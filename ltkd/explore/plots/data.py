"""Figures of long-tailed data: counts, profiles, groups and the images themselves."""

import base64
import io

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots

from .theme import PALETTE, group_colour, panels, style

SAME_COLOUR = {"head": 0, "many": 0, "medium": 1, "tail": 2, "few": 2}  # names of both definitions of a group
FIRST_FREE = 3  # colour that means no group


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
    for i, (name, values) in enumerate(by_name.items()):
        colour = PALETTE[(FIRST_FREE + i) % len(PALETTE)]
        figure.add_scatter(x=np.arange(len(values)), y=np.asarray(values), name=name, mode="lines", line_color=colour)
    style(figure, title=title, x="class", y="images")
    figure.update_yaxes(type="log" if log else "linear")
    return figure


def partitions(by_name, *, title="Which classes are the tail?"):
    """One strip of coloured classes a definition. by_name: {definition: ClassGroups}; group names in the hover."""
    figure = go.Figure()
    for row, groups in enumerate(by_name.values()):
        for bar in _strip(row, groups):
            bar.showlegend = bar.name not in {shown.name for shown in figure.data}
            figure.add_trace(bar)
    style(figure, title=title, x="class, from most to fewest images", bargap=0.05, barmode="overlay", height=330)
    strips = {"tickvals": list(range(len(by_name))), "ticktext": list(by_name), "automargin": True}
    return figure.update_yaxes(**strips, autorange="reversed", showgrid=False, title="")


def _strip(row, groups):
    """One bar trace a group that colours its classes in the strip at height `row`."""
    index = groups.index.numpy()
    for g, name in enumerate(groups.names):
        members = np.flatnonzero(index == g)
        yield go.Bar(
            x=members,
            y=np.full(len(members), 0.8),
            base=np.full(len(members), row - 0.4),
            name=name,
            marker_color=group_colour(SAME_COLOUR.get(name, g)),
            legendgroup=name,
            hovertemplate=f"class %{{x}}: {name}<extra></extra>",
        )


def longtail(class_counts, by_rank, by_shots, *, class_names=None, log=False, samples=None, title=""):
    """A long tail and what two definitions make of it: counts coloured by rank, a strip for either definition on the
    same axis, and below, where given, images.

    class_counts (C,), from most to fewest; by_rank, by_shots: ClassGroups; samples: {heading: uint8 (N, channels, side,
    side)}, two of them.
    """
    n_rows, heights = (3, [0.5, 0.17, 0.33]) if samples else (2, [0.72, 0.28])
    layout = {"specs": [*[[{"colspan": 2}, None]] * 2, *[[{}, {}]] * (n_rows - 2)], "row_heights": heights}
    figure = panels(n_rows, 2, ["", "", *(samples or ())], vertical_spacing=0.13 if samples else 0.06, **layout)
    bars = counts(class_counts, by_rank, class_names=class_names).data
    for bar in bars:
        bar.legendgroup, bar.name = bar.name, f"{bar.name}: {100 * sum(bar.y) / sum(class_counts):.1f} % of the images"
    strips = [*_strip(0, by_shots), *_strip(1, by_rank)]
    for bar in strips:
        bar.showlegend = False
    pictures = [go.Image(source=_png(images), hoverinfo="skip") for images in (samples or {}).values()]
    rows = [1] * len(bars) + [2] * len(strips) + [3] * len(pictures)
    columns = [1] * (len(bars) + len(strips)) + list(range(1, 1 + len(pictures)))
    figure.add_traces([*bars, *strips, *pictures], rows, columns)
    style(figure, title=title, height=720 if samples else 500, bargap=0.1, barmode="overlay")
    return _longtail_axes(figure, len(class_counts), log, f"by shots: {', '.join(by_shots.names)}")


def _longtail_axes(figure, n_classes, log, shots):
    """Names and ranges of the axes of `longtail`."""
    classes = {"range": [-0.8, n_classes - 0.2]}
    tickvals, standoff = {"tickvals": [0, 1], "showgrid": False, "range": [-0.5, 1.5]}, {"standoff": 6}
    figure.update_layout(
        xaxis=classes | {"showticklabels": False, "matches": "x2"},
        xaxis2=classes | {"title": {"text": "class, from most to fewest images"} | standoff},
        yaxis={"title": {"text": "training images"}, "type": "log" if log else "linear"},
        yaxis2=tickvals | {"ticktext": [shots.replace(": ", ":<br>"), "by rank"]},
        margin={"l": 150, "t": 90},
        legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
    )
    figure.layout.yaxis.domain = figure.layout.yaxis2.domain[1] + 0.03, 1
    for name in ("xaxis3", "xaxis4", "yaxis3", "yaxis4"):
        if name in figure.layout:
            figure.layout[name].visible = False
    return figure


def _sheet(images, columns, fill):
    """Images (N, channels, side, side) in a grid, with lines of one pixel between: uint8 (height, width, channels)."""
    n, channels, side, _ = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (side + 1), columns * (side + 1), channels), fill, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (side + 1), (i % columns) * (side + 1)
        sheet[top : top + side, left : left + side] = image.transpose(1, 2, 0)
    return sheet.repeat(3, axis=2) if channels == 1 else sheet


def _png(images, columns=6):
    """Images in a grid as the address of a PNG, which a browser draws faster than an array of pixels."""
    images = np.asarray(images)
    colours = images.repeat(3, axis=1) if images.shape[1] == 1 else images
    solid = np.full_like(colours[:, :1], 255)
    sheet = _sheet(np.concatenate([colours, solid], 1), columns, fill=0)  # see-through between the images
    stored = io.BytesIO()
    Image.fromarray(sheet).save(stored, "png")
    return "data:image/png;base64," + base64.b64encode(stored.getvalue()).decode()


def contact_sheet(images, *, columns=10, title=""):
    """Images in a grid. images: uint8 (N, channels, side, side), grey or colour."""
    images = np.asarray(images)
    columns = min(columns, len(images))
    figure = go.Figure(go.Image(z=_sheet(images, columns, fill=255), hoverinfo="skip"))
    style(figure, title=title, height=90 + 60 * -(-len(images) // columns))
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 10})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure
