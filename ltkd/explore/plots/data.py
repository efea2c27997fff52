"""Figures of long-tailed data: counts, profiles, groups and the images themselves."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike
from PIL import Image
from plotly.subplots import make_subplots

from ...groups import ClassGroups
from .theme import PALETTE, group_colour, panels, plain_text, style

SAME_COLOUR = {"head": 0, "many": 0, "medium": 1, "tail": 2, "few": 2}  # group names by rank and by shots
FIRST_FREE = 3  # the first colour that stands for no group


@plain_text
def counts(
    class_counts: ArrayLike,
    groups: ClassGroups,
    *,
    class_names: Sequence[str] | None = None,
    log: bool = False,
    title: str = "Training images of each class",
) -> go.Figure:
    """Bars of the training images of each class, coloured by group.

    class_counts (C,); class_names: of the C classes, 0, 1, 2, ... unless given; log: a logarithmic y axis.
    """
    figure = go.Figure([*_count_bars(class_counts, groups, class_names)])
    style(figure, title=title, x="class", y="images", bargap=0.15)
    if log:
        figure.update_yaxes(type="log", title="images, log scale")
    return figure


def _count_bars(
    class_counts: ArrayLike, groups: ClassGroups, class_names: Sequence[str] | None = None
) -> Iterator[go.Bar]:
    """One trace per group with the counts (C,) of its classes."""
    images, index = np.asarray(class_counts), groups.index.numpy()
    names = np.asarray(class_names if class_names is not None else np.arange(len(images)).astype(str))
    for g, name in enumerate(groups.names):
        members = np.flatnonzero(index == g)
        yield go.Bar(
            x=members,
            y=images[members],
            name=name,
            marker_color=group_colour(g),
            customdata=names[members],
            hovertemplate="class %{customdata}: %{y} images<extra></extra>",
        )


@plain_text
def counts_twice(class_counts: ArrayLike, groups: ClassGroups) -> go.Figure:
    """The counts (C,) on a linear and on a logarithmic axis, side by side."""
    figure = make_subplots(1, 2, subplot_titles=("linear axis", "logarithmic axis"))
    for column in (1, 2):
        for trace in _count_bars(class_counts, groups):
            trace.showlegend = column == 1
            figure.add_trace(trace, 1, column)
    figure.update_yaxes(type="log", row=1, col=2)
    return style(figure, title="One profile, two axes", x="class", y="images", bargap=0.15)


@plain_text
def profiles(
    by_name: Mapping[str, ArrayLike], *, log: bool = True, title: str = "Images kept of each class"
) -> go.Figure:
    """One line per profile. by_name: {profile: training images of each class (C,)}; log: a logarithmic y axis."""
    figure = go.Figure()
    for i, (name, values) in enumerate(by_name.items()):
        colour = PALETTE[(FIRST_FREE + i) % len(PALETTE)]
        y = np.asarray(values)
        figure.add_scatter(x=np.arange(len(y)), y=y, name=name, mode="lines", line_color=colour)
    style(figure, title=title, x="class", y="images")
    figure.update_yaxes(type="log" if log else "linear")
    return figure


@plain_text
def partitions(by_name: Mapping[str, ClassGroups], *, title: str = "Which classes are the tail?") -> go.Figure:
    """One strip per definition of the groups, its classes coloured by group. by_name: {definition: ClassGroups}."""
    figure = go.Figure()
    for row, groups in enumerate(by_name.values()):
        for bar in _strip(row, groups):
            bar.showlegend = bar.name not in {shown.name for shown in figure.data}
            figure.add_trace(bar)
    style(figure, title=title, x="class, from most to fewest images", bargap=0.05, barmode="overlay", height=330)
    strips = {"tickvals": list(range(len(by_name))), "ticktext": list(by_name), "automargin": True}
    return figure.update_yaxes(**strips, autorange="reversed", showgrid=False, title="")


def _strip(row: int, groups: ClassGroups) -> Iterator[go.Bar]:
    """One trace per group that colours its classes in the strip at height `row`."""
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
            hovertemplate="class %{x}: %{fullData.name}<extra></extra>",
        )


@plain_text
def longtail(
    class_counts: np.ndarray,
    by_rank: ClassGroups,
    by_shots: ClassGroups,
    *,
    class_names: Sequence[str] | None = None,
    log: bool = False,
    samples: Mapping[str, ArrayLike] | None = None,
    title: str = "",
) -> go.Figure:
    """A long tail and two definitions of its groups: counts coloured by rank, and one strip of classes per definition.

    class_counts (C,): from most to fewest; log: a logarithmic axis of the counts; samples: images to draw below, two
    entries {heading: uint8 (N, channels, side, side)}.
    """
    n_rows, heights = (3, [0.5, 0.17, 0.33]) if samples else (2, [0.72, 0.28])
    layout = {"specs": [*[[{"colspan": 2}, None]] * 2, *[[{}, {}]] * (n_rows - 2)], "row_heights": heights}
    figure = panels(n_rows, 2, ["", "", *(samples or ())], vertical_spacing=0.13 if samples else 0.06, **layout)
    bars = [*_count_bars(class_counts, by_rank, class_names)]
    for bar in bars:
        bar.legendgroup, bar.name = bar.name, f"{bar.name}: {100 * sum(bar.y) / sum(class_counts):.1f} % of the images"
    strips = [*_strip(0, by_shots), *_strip(1, by_rank)]
    for bar in strips:
        bar.showlegend = False
    pictures = [go.Image(source=_png_url(images), hoverinfo="skip") for images in (samples or {}).values()]
    rows = [1] * len(bars) + [2] * len(strips) + [3] * len(pictures)
    columns = [1] * (len(bars) + len(strips)) + list(range(1, 1 + len(pictures)))
    figure.add_traces([*bars, *strips, *pictures], rows, columns)
    style(figure, title=title, height=720 if samples else 500, bargap=0.1, barmode="overlay")
    return _longtail_axes(figure, len(class_counts), log, f"by shots: {', '.join(by_shots.names)}")


def _longtail_axes(figure: go.Figure, n_classes: int, log: bool, shots: str) -> go.Figure:
    """Set the titles and ranges of the axes of `longtail`. shots: the name of the strip of groups by shots."""
    classes = {"range": [-0.8, n_classes - 0.2]}
    tickvals, standoff = {"tickvals": [0, 1], "showgrid": False, "range": [-0.5, 1.5]}, {"standoff": 6}
    figure.update_layout(
        xaxis=classes | {"showticklabels": False, "matches": "x2"},
        xaxis2=classes | {"title": {"text": "class, from most to fewest images"} | standoff},
        yaxis={"title": {"text": "training images"}, "type": "log" if log else "linear"},
        yaxis2=tickvals | {"ticktext": [shots.replace(": ", ":\n"), "by rank"]},
        margin={"l": 150, "t": 90},
        legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
    )
    figure.layout.yaxis.domain = figure.layout.yaxis2.domain[1] + 0.03, 1
    for name in ("xaxis3", "xaxis4", "yaxis3", "yaxis4"):
        if name in figure.layout:
            figure.layout[name].visible = False
    return figure


def _image_grid(images: np.ndarray, columns: int, fill: int) -> np.ndarray:
    """Images (N, channels, side, side) in a grid, with gaps of one pixel: uint8 (height, width, channels)."""
    n, channels, side, _ = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (side + 1), columns * (side + 1), channels), fill, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (side + 1), (i % columns) * (side + 1)
        sheet[top : top + side, left : left + side] = image.transpose(1, 2, 0)
    return sheet.repeat(3, axis=2) if channels == 1 else sheet


def _png_url(images: ArrayLike, columns: int = 6) -> str:
    """Images in a grid, as the data URL of a PNG: a browser draws it faster than an array of pixels."""
    pixels = np.asarray(images)
    colours = pixels.repeat(3, axis=1) if pixels.shape[1] == 1 else pixels
    opaque = np.full_like(colours[:, :1], 255)
    sheet = _image_grid(np.concatenate([colours, opaque], 1), columns, fill=0)  # the gaps are transparent
    stored = io.BytesIO()
    Image.fromarray(sheet).save(stored, "png")
    return "data:image/png;base64," + base64.b64encode(stored.getvalue()).decode()


@plain_text
def contact_sheet(images: ArrayLike, *, columns: int = 10, title: str = "") -> go.Figure:
    """Images in a grid. images: uint8 (N, channels, side, side), grey or colour."""
    pixels = np.asarray(images)
    columns = min(columns, len(pixels))
    figure = go.Figure(go.Image(z=_image_grid(pixels, columns, fill=255), hoverinfo="skip"))
    style(figure, title=title, height=90 + 60 * -(-len(pixels) // columns))
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 10})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure
