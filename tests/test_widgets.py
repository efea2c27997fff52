"""Controls redraw the figure below them, and live curves grow without flooding the browser."""

import numpy as np
import plotly.graph_objects as go

from ltkd import RunConfig, widgets


def draw(power, kind):
    x = np.arange(4)
    trace = go.Scatter(x=x, y=x**power) if kind == "line" else go.Bar(x=x, y=x**power)
    return go.Figure(trace, layout={"title": {"text": f"{kind} {power}"}})


def test_moving_a_slider_redraws_the_same_figure():
    box = widgets.explore(draw, power={"range": (1, 5), "value": 2}, kind=["line", "bar"])
    slider, _, figure = box.children
    assert list(figure.data[0].y) == [0, 1, 4, 9]
    slider.value = 3
    assert list(figure.data[0].y) == [0, 1, 8, 27] and figure.layout.title.text == "line 3"


def test_a_choice_may_change_the_kind_of_the_figure():
    box = widgets.explore(draw, power=(1, 5), kind=["line", "bar"])
    box.children[1].value = "bar"
    assert box.children[2].data[0].type == "bar"


def test_whole_limits_make_whole_sliders():
    box = widgets.explore(lambda a, b: draw(a, "line"), a=(1, 3), b=(0.0, 1.0, 0.1))
    assert [type(child).__name__ for child in box.children[:2]] == ["IntSlider", "FloatSlider"]


def test_live_curves_draw_seldom_and_the_end_when_asked(monkeypatch):
    monkeypatch.setattr(widgets, "REDRAW_SECONDS", 1e9)
    live = widgets.LiveCurves({"loss": "loss"})
    config = RunConfig.make(epochs=3)
    history = []
    for epoch in (1, 2, 3):
        history.append({"epoch": epoch, "loss": 1 / epoch})
        live(config, history)
    assert len(live.figure.data[0].y) == 1
    live.draw()
    assert len(live.figure.data[0].y) == 3
