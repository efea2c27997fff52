"""The style of all figures: one colour per group, one colour per method, one line style per network."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...errors import visible
from ...methods import METHODS

# Okabe and Ito's colours, safe for colour-blind readers: head, medium, tail, then further groups.
PALETTE = ("#E69F00", "#009E73", "#0072B2", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
# The teacher, then the methods in the order of METHODS. Colour-blind readers can tell the first eight apart.
METHOD_PALETTE = (
    *("#8c8c8c", "#D55E00", "#CC79A7", "#56B4E9", "#7B61D9", "#B5651D", "#999933", "#117733", "#882255", "#44AA99"),
    *("#DDAA33", "#CC6677", "#6699CC", "#AA4499", "#5DA271", "#C48A00", "#8C8CFF", "#E377C2", "#17BECF", "#BCBD22"),
    "#B07AA1",
)
TEACHER_LINE, STUDENT_LINE = "solid", "dash"
TEXT = "#6b7280"  # a grey that is readable on light and dark pages
GRID = "rgba(128,128,128,0.25)"

MARKS = str.maketrans({"&": "&amp;", "<": "&lt;", "$": "&#36;"})  # what begins a tag, an entity or an equation
TEMPLATES = ("hovertemplate", "texttemplate")  # of a trace: they hold marks of plotly, and so never a name

Drawn = ParamSpec("Drawn")


def plain_text(draw: Callable[Drawn, go.Figure]) -> Callable[Drawn, go.Figure]:
    """Decorator of every figure: each of its texts is shown as it is, and a line break in it as a line break.

    Plotly reads texts as HTML (bold, links) and LaTeX, and the names of classes, runs and networks are not ours. A
    template is left as it is: it takes names from the trace, by `%{customdata}` or `%{fullData.name}`.
    """

    @wraps(draw)
    def drawn(*args: Drawn.args, **kwargs: Drawn.kwargs) -> go.Figure:
        figure = draw(*args, **kwargs)
        for part in (*figure.data, figure.layout):
            before = part.to_plotly_json()
            after = {name: value if name in TEMPLATES else _plain(value) for name, value in before.items()}
            changed = {name: value for name, value in after.items() if value is not before[name]}
            if changed:
                part.update(changed, overwrite=True)
        return figure

    return drawn


def _plain(value: Any) -> Any:
    """The value with all texts in it escaped for plotly; the same object if that changes nothing."""
    if isinstance(value, str):
        escaped = "<br>".join(map(_plain_line, value.split("\n")))
        return value if escaped == value else escaped
    if isinstance(value, Mapping):
        parts = {name: _plain(part) for name, part in value.items()}
        return parts if any(parts[name] is not part for name, part in value.items()) else value
    if isinstance(value, np.ndarray):
        texts = value.tolist() if value.dtype.kind in "OU" else None
        return value if _plain(texts) is texts else np.array(_plain(texts))
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _plain_line(text: str) -> str:
    return visible(text).translate(MARKS)


def style(figure: go.Figure, *, title: str, x: str = "", y: str = "", height: int = 380, **layout: Any) -> go.Figure:
    """Give the figure its title, the names of its axes and the style of all figures.

    height: in pixels; layout: further properties of the figure's layout.
    """
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


def panels(rows: int, columns: int, headings: Sequence[str], **layout: Any) -> go.Figure:
    """An empty figure of panels whose headings fit side by side. layout: further arguments of make_subplots."""
    figure = make_subplots(rows, columns, subplot_titles=headings, **layout)
    return figure.update_layout(
        annotations=[{"font": {"size": 14}, "text": note.text} for note in figure.layout.annotations]
    )


def bar_text(template: str | None = None, *, position: str = "outside", **more: Any) -> dict[str, Any]:
    """Properties of a bar's text: one size, upright, never cut. Plotly's defaults shrink and rotate it to fit."""
    return {
        "texttemplate": template,
        "textposition": position,
        "textfont": {"size": 12},
        "textangle": 0,
        "constraintext": "none",
        "cliponaxis": False,
        **more,
    }


def group_colour(g: int) -> str:
    """The colour of the g-th group, counted from 0."""
    return PALETTE[g % len(PALETTE)]


def label_colour(label: object, position: int) -> str:
    """The colour of a curve or bar: that of the method whose name is the label's first word, else one by position.

    Only the teacher has the first colour, grey.
    """
    names = ["teacher", *METHODS]
    first = str(label).split(" ")[0].lower()
    place = names.index(first) if first in names else position
    return METHOD_PALETTE[place if place == 0 else 1 + (place - 1) % (len(METHOD_PALETTE) - 1)]
