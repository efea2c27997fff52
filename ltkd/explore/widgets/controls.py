"""Controls above one figure that is redrawn when a control changes: the base of all explorers."""

import html
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import ipywidgets
import numpy as np
import plotly.graph_objects as go
from plotly.basedatatypes import BasePlotlyType

from ...errors import ConfigError, LtkdError, unknown, visible
from .wide import SharedFigure, wide

LABEL_WIDTH, CONTROL_WIDTH = "120px", "410px"

Drawing = tuple[go.Figure, str]  # a figure and the note above it
Draw = Callable[..., go.Figure | Drawing]
Adapt = Callable[[dict[str, Any]], Mapping[str, Mapping[str, Any]]]


def explore(draw: Draw, adapt: Adapt | None = None, **controls: Any) -> "Explorer":
    """An Explorer: controls above the figure that `draw(**values)` returns, redrawn when a control changes.

    draw: returns a figure, or a figure and a note to show above it. controls: {argument of draw: its control}, where a
    control is one of

      (low, high) or (low, high, step)      a slider, of integers if all of them are
      [option, ...]                         a menu; an option is a value or (text, value)
      True or False                         a checkbox
      {"range": (low, high), "value": 3}    a slider with its first value
      {"options": [...], "value": option}   a choice; "kind" is "menu", "buttons" or "steps" (a slider of the options)
      {"value": True}                       a checkbox

    A dict may also have "label" and "help". adapt(values): called before each drawing, returns changes of controls,
    {name: {"max": ..., "options": ..., "value": ..., "hidden": ...}}. Raises ConfigError for a description that is none
    of these.
    """
    return Explorer(draw, controls, adapt)


class Explorer(ipywidgets.VBox):
    """The widget that `explore` returns. panel: {name: control}; figure: the FigureWidget; note: the text above it.

    When a drawing fails, the figure stays as it was and the note shows the error.
    """

    children: Sequence[ipywidgets.DOMWidget]

    def __init__(self, draw: Draw, controls: Mapping[str, Any], adapt: Adapt | None = None):
        self._draw, self._adapt, self._drawing_paused = draw, adapt, False
        self.panel = {name: control(name, given) for name, given in controls.items()}
        self._adapt_controls()
        figure, text = self._draw_figure()
        self.figure: SharedFigure = wide(figure)
        self.note = ipywidgets.HTML()
        self._show_note(text)
        for widget in self.panel.values():
            widget.observe(self._moved, names="value")
        super().__init__([_in_rows(self.panel.values()), self.note, self.figure])

    @property
    def values(self) -> dict[str, Any]:
        """The values of the controls, by name."""
        return {name: widget.value for name, widget in self.panel.items()}

    def redraw(self) -> None:
        """Adapt the controls and redraw the figure. An error is shown in the note; all but LtkdError are raised too."""
        try:
            self._adapt_controls()
            figure, text = self._draw_figure()
            replace_contents(self.figure, figure)
        except Exception as error:
            self._show_note(error_text(error), failed=True)
            if not isinstance(error, LtkdError):
                raise  # not an error of the user: the kernel's log shows it too
        else:
            self._show_note(text)

    def _moved(self, _change: Any) -> None:
        if not self._drawing_paused:
            self.redraw()

    @contextmanager
    def _without_drawing(self) -> Iterator[None]:
        """Controls may change inside this block without a redraw for each change."""
        self._drawing_paused = True
        try:
            yield
        finally:
            self._drawing_paused = False

    def _draw_figure(self) -> Drawing:
        drawn = self._draw(**self.values)
        return drawn if isinstance(drawn, tuple) else (drawn, "")

    def _adapt_controls(self) -> None:
        if self._adapt is None:
            return
        with self._without_drawing():
            for name, change in self._adapt(self.values).items():
                _apply_change(self.panel[name], change)

    def _show_note(self, text: str, *, failed: bool = False) -> None:
        colour = "color:#D55E00;" if failed else ""
        style = f"font-size:14px;line-height:1.5;padding:4px 8px;{colour}"
        self.note.value = f'<div style="{style}">{html.escape(visible(text))}</div>' if text else ""


def error_text(error: Exception) -> str:
    """The error in one sentence; the type of an error is shown if it is not one of this package."""
    return f"{error}" if isinstance(error, LtkdError) else f"{type(error).__name__}: {error}"


def _in_rows(widgets: Iterable[ipywidgets.DOMWidget]) -> ipywidgets.Box:
    """Controls side by side, wrapped to the width of the page; three or more checkboxes start a row."""
    wrapped = {"flex_flow": "row wrap", "overflow": "visible"}  # "visible": no scroll bars
    placed: list[ipywidgets.DOMWidget] = []
    for checkboxes, neighbours in groupby(widgets, key=lambda widget: isinstance(widget, ipywidgets.Checkbox)):
        row = list(neighbours)
        placed += [ipywidgets.Box(row, layout=wrapped | {"width": "100%"})] if checkboxes and len(row) > 2 else row
    return ipywidgets.Box(placed, layout=wrapped)


def control(name: str, given: Any) -> ipywidgets.DOMWidget:
    """The control that `given` describes, see `explore`. Raises ConfigError for any other description."""
    given = dict(given) if isinstance(given, dict) else _as_dict(given)
    common = {
        "description": given.get("label", name.replace("_", " ")),
        "tooltip": given.get("help", ""),
        "style": {"description_width": LABEL_WIDTH},
        "layout": {"width": CONTROL_WIDTH},
    }
    start = given.get("value")
    if "options" in given:
        return _choice_control(given, start, common)
    if "range" in given:
        return _slider_control(given["range"], start, common)
    if isinstance(start, bool):
        return ipywidgets.Checkbox(
            value=start, indent=False, **common | {"layout": {"width": "auto", "margin": "2px 14px"}}
        )
    raise ConfigError(f"control {name!r}: give a range, a list of options, or true or false, not {given!r}")


def _as_dict(given: Any) -> dict[str, Any]:
    if isinstance(given, bool):
        return {"value": given}
    return {"options": given} if isinstance(given, list) else {"range": given}


def _choice_control(given: Mapping[str, Any], start: Any, common: dict[str, Any]) -> ipywidgets.DOMWidget:
    kinds = {"menu": ipywidgets.Dropdown, "buttons": ipywidgets.ToggleButtons, "steps": ipywidgets.SelectionSlider}
    options = list(given["options"])
    kind = given.get("kind", "menu")
    values = option_values(options)
    if start is not None and start not in values:
        raise unknown(common["description"], start, values)
    if kind == "buttons":  # a row without a label; each button is as wide as its text
        look = {"layout": {"width": "100%"}, "style": {"button_width": "max-content"}, "description": ""}
        common = common | look
    return kinds[kind](options=options, value=values[0] if start is None else start, **common)


def option_values(options: Iterable[Any]) -> list[Any]:
    """The values of the options of a choice; an option is a value or (text, value)."""
    return [option[1] if isinstance(option, tuple) else option for option in options]


def _slider_control(limits: Sequence[float], start: float | None, common: dict[str, Any]) -> ipywidgets.DOMWidget:
    low, high, *rest = limits
    whole = all(isinstance(v, int) for v in limits)
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    step = rest[0] if rest else (1 if whole else (high - low) / 50 or 1.0)
    value = low if start is None else max(min(start, high), low)
    if high <= low:  # a browser fails on a slider of one value: it gets a second one and is hidden
        high, common = low + step, common | {"layout": common["layout"] | {"display": "none"}}
    number = {} if whole else {"readout_format": f".{max(0, math.ceil(-math.log10(step) - 1e-9))}f"}
    return kind(value=value, min=low, max=high, step=step, continuous_update=True, **number, **common)


def _apply_change(widget: ipywidgets.DOMWidget, given: Mapping[str, Any]) -> None:
    """Apply a change of `adapt` to a control. Its value stays if it is still allowed, and it is shown unless hidden.

    A browser fails on a slider of one value: such a slider gets a second one and is hidden.
    """
    change = {"hidden": False, **given}
    if "max" in change and change["max"] <= widget.min:
        change |= {"max": widget.min + widget.step, "value": widget.min, "hidden": True}
    if isinstance(widget, ipywidgets.SelectionSlider) and len(change.get("options", ())) == 1:
        change |= {"options": [*change["options"]] * 2, "hidden": True}
    for what, value in change.items():
        if what == "hidden":
            widget.layout.display = "none" if value else None
        elif what == "options":
            if tuple(widget.options) != tuple(value):
                kept = widget.value
                widget.options = value
                if kept in option_values(value):
                    widget.value = kept
        elif getattr(widget, what) != value:
            setattr(widget, what, value)


def replace_contents(figure: go.FigureWidget, new: go.Figure) -> None:
    """Make a FigureWidget show the contents of `new`. Its first traces are updated in place while their types match."""
    with figure.batch_update():
        same = _count_matching(figure.data, new.data)
        if same < len(figure.data):
            figure.data = figure.data[:same]
        for shown, fresh in zip(figure.data, new.data[:same], strict=True):
            shown.update(_differences(shown, fresh), overwrite=True)
        figure.layout.update(_differences(figure.layout, new.layout), overwrite=True)
    if same < len(new.data):  # after the layout, so that their axes exist: a heatmap on a logarithmic axis is an error
        figure.add_traces(new.data[same:])


def _differences(shown: BasePlotlyType, new: BasePlotlyType) -> dict[str, Any]:
    """The properties that turn `shown` into `new`. Missing properties become None; missing axes are hidden, since a
    browser keeps every axis that it has drawn."""
    old, wanted = shown.to_plotly_json(), new.to_plotly_json()
    changes = {name: value for name, value in wanted.items() if not _equal(value, old.get(name))}
    for name in old.keys() - wanted.keys() - {"uid"}:
        is_axis = name[1:5] == "axis" and isinstance(old[name], dict)  # in a trace, "xaxis" is the name of an axis
        changes[name] = {"visible": False} if is_axis else None
    return changes


def _equal(one: Any, other: Any) -> bool:
    """True if two parts of a figure are equal; arrays and lists of the same numbers are."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return other is not None and np.array_equal(one, other)
    return one == other


def _count_matching(shown: Sequence[BasePlotlyType], new: Sequence[BasePlotlyType]) -> int:
    """The number of traces at the start that have the same types in both."""
    pairs = enumerate(zip(shown, new, strict=False))
    return next((i for i, (a, b) in pairs if a.type != b.type), min(len(shown), len(new)))
