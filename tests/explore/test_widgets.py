"""Controls redraw the figure below them, adapt to each other, and show errors."""

import ipywidgets
import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from ltkd import ConfigError
from ltkd.explore import widgets
from ltkd.explore.widgets.controls import replace_contents


def draw(power, kind):
    x = np.arange(4)
    trace = go.Scatter(x=x, y=x**power) if kind == "line" else go.Bar(x=x, y=x**power)
    return go.Figure(trace, layout={"title": {"text": f"{kind} {power}"}})


def draw_line(**values):
    return draw(2, "line"), f"{values}"


def test_moving_a_slider_redraws_the_same_figure():
    explorer = widgets.explore(draw, power={"range": (1, 5), "value": 2}, kind=["line", "bar"])
    figure = explorer.figure
    assert list(figure.data[0].y) == [0, 1, 4, 9] and figure in explorer.children
    explorer.panel["power"].value = 3
    assert list(figure.data[0].y) == [0, 1, 8, 27] and figure.layout.title.text == "line 3"


def test_a_choice_may_change_the_kind_of_the_figure():
    explorer = widgets.explore(draw, power=(1, 5), kind={"options": ["line", "bar"], "kind": "buttons"})
    explorer.panel["kind"].value = "bar"
    assert explorer.figure.data[0].type == "bar"


KINDS = {
    ipywidgets.IntSlider: (1, 3),
    ipywidgets.FloatSlider: (0.0, 1.0, 0.1),
    ipywidgets.Dropdown: ["a", "b"],
    ipywidgets.Checkbox: True,
    ipywidgets.ToggleButtons: {"options": ["a", "b"], "kind": "buttons"},
    ipywidgets.SelectionSlider: {"options": [("one", 1), ("two", 2)], "kind": "steps", "value": 2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_makes_its_control(kind):
    panel = widgets.explore(draw_line, x=KINDS[kind]).panel
    assert type(panel["x"]) is kind


def test_a_number_has_the_decimals_of_its_step():
    panel = widgets.explore(draw_line, a=(0.0, 1.0, 0.05), b=(0.0, 8.0, 0.1), c=(1.0, 500.0, 1.0)).panel
    assert [panel[name].readout_format for name in "abc"] == [".2f", ".1f", ".0f"]


def test_an_invalid_description_of_a_control_raises():
    with pytest.raises(ConfigError, match="give a range, a list of options, or true or false"):
        widgets.explore(draw_line, x={"value": 3})
    with pytest.raises(ConfigError, match="did you mean 'line'"):
        widgets.explore(draw, power=(1, 2), kind={"options": ["line", "bar"], "value": "lines"})


def test_the_note_is_plain_text():
    explorer = widgets.explore(draw_line, name=["<b>", "c"])
    assert "&lt;b&gt;" in explorer.note.value
    explorer.panel["name"].value = "c"
    assert "&lt;" not in explorer.note.value


def follow(values):
    options = [("one", 1), ("two", 2)] if values["few"] else [("one", 1), ("two", 2), ("three", 3)]
    return {"n": {"max": 3 if values["few"] else 9, "hidden": values["few"]}, "which": {"options": options}}


def test_adapted_controls_are_drawn_once():
    drawings = []

    def counted(**values):
        drawings.append(values)
        return draw(2, "line")

    given = {"few": False, "n": {"range": (1, 5), "value": 5}, "which": {"options": [("one", 1)], "value": 1}}
    explorer = widgets.explore(counted, adapt=follow, **given)
    explorer.panel["n"].value, explorer.panel["which"].value = 9, 2
    drawings.clear()
    explorer.panel["few"].value = True
    assert drawings == [{"few": True, "n": 3, "which": 2}]
    assert explorer.panel["n"].layout.display == "none"


def test_a_value_that_is_no_longer_an_option_is_replaced():
    given = {"few": False, "n": (1, 5), "which": {"options": [("one", 1), ("two", 2), ("three", 3)], "value": 3}}
    explorer = widgets.explore(draw_line, adapt=follow, **given)
    explorer.panel["few"].value = True
    assert explorer.panel["which"].value == 1


def fails(x):
    if x == 2:
        raise ConfigError("x = 2: must not be 2")
    if x == 3:
        raise KeyError("lost")
    return draw(x, "line"), "fine"


def test_an_error_is_shown_and_the_figure_stays():
    explorer = widgets.explore(fails, x=(1, 4))
    explorer.panel["x"].value = 2
    assert "x = 2: must not be 2" in explorer.note.value and list(explorer.figure.data[0].y) == [0, 1, 2, 3]
    explorer.panel["x"].value = 4
    assert "fine" in explorer.note.value and list(explorer.figure.data[0].y) == [0, 1, 16, 81]


def test_an_unexpected_error_is_shown_and_raised():
    explorer = widgets.explore(fails, x=(1, 4))
    with pytest.raises(KeyError):
        explorer.panel["x"].value = 3
    assert "KeyError" in explorer.note.value


def panels(columns):
    figure = make_subplots(1, columns)
    for column in range(1, columns + 1):
        figure.add_scatter(x=[0, 1], y=[column, column], name=f"{columns}-{column}", row=1, col=column)
    return figure.update_layout(title_text=f"{columns}", annotations=[{"text": "note"}] * (columns - 1))


@pytest.mark.parametrize("columns", [(1, 3), (3, 1), (2, 2)])
def test_contents_are_replaced_by_panels(columns):
    before, after = map(panels, columns)
    shown = go.FigureWidget(before)
    replace_contents(shown, after)
    assert [trace.name for trace in shown.data] == [trace.name for trace in after.data]
    assert [trace.xaxis for trace in shown.data] == [trace.xaxis for trace in after.data]
    assert shown.layout.annotations == after.layout.annotations
    assert shown.layout.xaxis.domain == after.layout.xaxis.domain


def test_panels_are_replaced_by_a_plain_figure():
    shown = go.FigureWidget(panels(2))
    replace_contents(shown, draw(2, "line"))
    assert len(shown.data) == 1 and shown.data[0].xaxis is None and shown.layout.xaxis2.visible is False
