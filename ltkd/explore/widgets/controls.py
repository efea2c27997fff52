"""Controls above one figure that is drawn anew on every move: the machinery of all explorers."""

import html
import math
from itertools import groupby

import ipywidgets
import numpy as np

from ...errors import ConfigError, LtkdError, unknown
from .wide import wide

LABEL_WIDTH, CONTROL_WIDTH = "120px", "410px"


def explore(draw, adapt=None, **controls):
    """Controls above a figure that `draw(**values)` makes, redrawn on every move: an Explorer to display.

    draw returns a figure, or a figure and one sentence that is shown above it. controls: by argument name, (low, high)
    or (low, high, step) for a slider; a list for a menu; True or False for a box to tick; or a dict of one of them and
    more: {"range": (...), "value": start}, {"options": [...], "value": start, "kind": "menu", "buttons" or "steps"},
    {"value": True}, each with "label" and "help" if wanted. Buttons serve as tabs: they choose what `draw` draws.
    adapt(values) returns what follows for other controls, before each drawing: {name: {"max": ..., "options": ...,
    "hidden": ...}}.
    """
    return Explorer(draw, controls, adapt)


class Explorer(ipywidgets.VBox):
    """What `explore` returns. panel: {name: control}; figure: the FigureWidget; note: the sentence above it.

    When a drawing fails the figure stays as it was, and the note says why.
    """

    def __init__(self, draw, controls, adapt=None):
        self._draw, self._adapt, self._adapting = draw, adapt, False
        self.panel = {name: control(name, given) for name, given in controls.items()}
        self._adapt_controls()
        figure, text = self._drawn()
        self.figure, self.note = wide(figure), ipywidgets.HTML()
        self._say(text)
        for widget in self.panel.values():
            widget.observe(self._moved, names="value")
        super().__init__([_in_rows(self.panel.values()), self.note, self.figure])

    @property
    def values(self):
        """What the controls say: {name: value}."""
        return {name: widget.value for name, widget in self.panel.items()}

    def redraw(self):
        """Draw anew from the controls' values."""
        try:
            self._adapt_controls()
            figure, text = self._drawn()
            replace_contents(self.figure, figure)
        except Exception as error:
            self._say(f"{error}" if isinstance(error, LtkdError) else f"{type(error).__name__}: {error}", failed=True)
            if not isinstance(error, LtkdError):
                raise  # a fault of ours: to the log of the kernel, too
        else:
            self._say(text)

    def _moved(self, _change):
        if not self._adapting:  # a control that follows another one moves without a drawing of its own
            self.redraw()

    def _drawn(self):
        drawn = self._draw(**self.values)
        return drawn if isinstance(drawn, tuple) else (drawn, "")

    def _adapt_controls(self):
        if self._adapt is None:
            return
        self._adapting = True
        try:
            for name, change in self._adapt(self.values).items():
                _change(self.panel[name], change)
        finally:
            self._adapting = False

    def _say(self, text, *, failed=False):
        colour = "color:#D55E00;" if failed else ""
        style = f"font-size:14px;line-height:1.5;padding:4px 8px;{colour}"
        self.note.value = f'<div style="{style}">{html.escape(text)}</div>' if text else ""


def _in_rows(widgets):
    """Controls side by side, in as many rows as the page's width asks for; three boxes to tick and more begin a row."""
    wrapped = {"flex_flow": "row wrap", "overflow": "visible"}  # a control that is cut off would get a scroll bar
    placed = []
    for ticks, run in groupby(widgets, key=lambda widget: isinstance(widget, ipywidgets.Checkbox)):
        run = list(run)
        placed += [ipywidgets.Box(run, layout=wrapped | {"width": "100%"})] if ticks and len(run) > 2 else run
    return ipywidgets.Box(placed, layout=wrapped)


def control(name, given):
    """A control from its description, see `explore`."""
    given = dict(given) if isinstance(given, dict) else _described(given)
    common = {
        "description": given.get("label", name.replace("_", " ")),
        "tooltip": given.get("help", ""),
        "style": {"description_width": LABEL_WIDTH},
        "layout": {"width": CONTROL_WIDTH},
    }
    start = given.get("value")
    if "options" in given:
        return _choice(given, start, common)
    if "range" in given:
        return _slider(given["range"], start, common)
    if isinstance(start, bool):
        return ipywidgets.Checkbox(
            value=start, indent=False, **common | {"layout": {"width": "auto", "margin": "2px 14px"}}
        )
    raise ConfigError(f"control {name!r}: give a range, a list of options, or true or false")


def _described(given):
    if isinstance(given, bool):
        return {"value": given}
    return {"options": given} if isinstance(given, list) else {"range": given}


def _choice(given, start, common):
    kinds = {"menu": ipywidgets.Dropdown, "buttons": ipywidgets.ToggleButtons, "steps": ipywidgets.SelectionSlider}
    options = list(given["options"])
    kind = given.get("kind", "menu")
    if start is not None and start not in _values(options):
        raise unknown(common["description"], start, _values(options))
    if kind == "buttons":  # in a row of their own, which needs no name; each shows all of its text
        look = {"layout": {"width": "100%"}, "style": {"button_width": "max-content"}, "description": ""}
        common = common | look
    return kinds[kind](options=options, value=_values(options)[0] if start is None else start, **common)


def _values(options):
    """The values of the options of a choice, each of which may be (text, value)."""
    return [option[1] if isinstance(option, tuple) else option for option in options]


def _slider(limits, start, common):
    low, high, *rest = limits
    whole = all(isinstance(v, int) for v in limits)
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    step = rest[0] if rest else (1 if whole else (high - low) / 50 or 1.0)
    value = low if start is None else max(min(start, high), low)
    if high <= low:  # a slider of one value is an error in the browser: it is not shown, and longer by a step
        high, common = low + step, common | {"layout": common["layout"] | {"display": "none"}}
    number = {} if whole else {"readout_format": f".{max(0, math.ceil(-math.log10(step) - 1e-9))}f"}
    return kind(value=value, min=low, max=high, step=step, continuous_update=True, **number, **common)


def _change(widget, change):
    """Apply what follows for one control; its value stays if it can. A control of one value is not shown: as a slider
    it is an error in the browser, and thus gets a second one."""
    if "max" in change:
        one = change["max"] <= widget.min
        change = {"hidden": False} | change
        change |= {"max": widget.min + widget.step, "value": widget.min, "hidden": True} if one else {}
    if isinstance(widget, ipywidgets.SelectionSlider) and "options" in change:
        one = len(change["options"]) == 1
        change = {"hidden": False} | change
        change |= {"options": [*change["options"]] * 2, "hidden": True} if one else {}
    for what, value in change.items():
        if what == "hidden":
            widget.layout.display = "none" if value else None
        elif what == "options":
            if tuple(widget.options) != tuple(value):
                kept = widget.value
                widget.options = value
                widget.value = kept if kept in _values(value) else widget.value
        elif getattr(widget, what) != value:
            setattr(widget, what, value)


def replace_contents(figure, new):
    """Make the FigureWidget `figure` show what the figure `new` shows, keeping its traces where they match."""
    with figure.batch_update():
        same = _matching(figure.data, new.data)
        if same < len(figure.data):
            figure.data = figure.data[:same]
        for shown, fresh in zip(figure.data, new.data[:same], strict=True):
            shown.update(_changes(shown, fresh), overwrite=True)
        figure.layout.update(_changes(figure.layout, new.layout), overwrite=True)
    if same < len(new.data):  # on their own axes, which are there by now: matrices on a logarithmic axis are an error
        figure.add_traces(new.data[same:])


def _changes(shown, new):
    """What `new` says differently, and for all else that `shown` says None. The axes of panels that are gone are
    hidden: a browser draws an axis that it was once told of."""
    old, wanted = shown.to_plotly_json(), new.to_plotly_json()
    changes = {name: value for name, value in wanted.items() if not _equal(value, old.get(name))}
    for name in old.keys() - wanted.keys() - {"uid"}:
        is_axis = name[1:5] == "axis" and isinstance(old[name], dict)  # of a layout; a trace has the name of one
        changes[name] = {"visible": False} if is_axis else None
    return changes


def _equal(one, other):
    """Whether two parts of a figure are equal; arrays and lists of the same numbers are."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return other is not None and np.array_equal(one, other)
    return one == other


def _matching(shown, new):
    """How many traces, from the first on, are of the same types."""
    pairs = enumerate(zip(shown, new, strict=False))
    return next((i for i, (a, b) in pairs if a.type != b.type), min(len(shown), len(new)))
