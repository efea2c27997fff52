"""Figures that share one plotly.js."""

import plotly.graph_objects as go

from ltkd.explore.widgets import wide


def test_figures_are_small_and_share_the_code_of_plotly():
    first, second = (wide.wide(go.Figure(go.Scatter(y=[1, 2]))) for _ in range(2))
    assert first._plotly is second._plotly
    assert first._plotly.value == str(go.FigureWidget._esm)
    assert len(str(first.get_state())) < 50_000


def test_a_figure_after_closing_all_widgets_has_the_code_again():
    before = wide.wide(go.Figure())._plotly
    before.close()
    after = wide.wide(go.Figure())._plotly
    assert after is not before
    assert after.value == before.value
