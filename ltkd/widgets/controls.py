"""Sliders and menus above a figure that is drawn anew on every move."""

import ipywidgets
import plotly.graph_objects as go


def explore(draw, **controls):
    """Controls above a figure that `draw(**values)` makes, redrawn on every move.

    controls: by argument name, (low, high) or (low, high, step) for a slider, with an optional starting value as
    {'range': (...), 'value': ...}; a list for a choice. Returns the widget to display.
    """
    widgets = {name: _control(name, control) for name, control in controls.items()}
    values = {name: widget.value for name, widget in widgets.items()}
    figure = go.FigureWidget(draw(**values))

    def redraw(change):
        values[change["owner"].argument] = change["new"]
        replace_contents(figure, draw(**values))

    for name, widget in widgets.items():
        widget.argument = name
        widget.observe(redraw, names="value")
    return ipywidgets.VBox([*widgets.values(), figure])


def _control(name, control):
    label = {"description": name.replace("_", " "), "style": {"description_width": "120px"}}
    wide = {"layout": {"width": "480px"}, "continuous_update": True}
    if isinstance(control, list):
        return ipywidgets.Dropdown(options=control, **label)
    start = control.get("value") if isinstance(control, dict) else None
    low, high, *rest = control["range"] if isinstance(control, dict) else control
    whole = all(isinstance(v, int) for v in (low, high, *rest))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    step = rest[0] if rest else (1 if whole else (high - low) / 50)
    return kind(value=low if start is None else start, min=low, max=high, step=step, **label, **wide)


def replace_contents(figure, new):
    """Make the FigureWidget `figure` show what the figure `new` shows, keeping its traces where they match."""
    with figure.batch_update():
        if [t.type for t in figure.data] == [t.type for t in new.data]:
            for shown, fresh in zip(figure.data, new.data, strict=True):
                shown.update(fresh.to_plotly_json(), overwrite=True)
        else:
            figure.data = ()
            figure.add_traces(new.data)
        figure.layout.update(new.layout.to_plotly_json(), overwrite=True)
