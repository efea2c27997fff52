"""Figures as wide as the page that share one copy of plotly.js."""

from pathlib import Path

import ipywidgets
import plotly
import plotly.graph_objects as go
import traitlets


class SharedFigure(go.FigureWidget):
    """A FigureWidget that loads fast and is as wide as the page.

    Each plain FigureWidget carries the 5 MB of plotly's code. On a busy machine several of them take longer to load
    than the two seconds that anywidget waits, and then they receive no more updates from the kernel. Here all figures
    share one model with the code (`_plotly`), and the page evaluates it once.
    """

    _esm = Path(__file__).with_name("shared_figure.js").read_text("utf-8")
    _plotly = traitlets.Instance(ipywidgets.Widget).tag(sync=True, **ipywidgets.widget_serialization)
    _plotly_version = traitlets.Unicode(plotly.__version__).tag(sync=True)

    @traitlets.default("_plotly")
    def _shared_code(self) -> ipywidgets.Widget:
        return _plotly_code()


_code_models: list[ipywidgets.Widget] = []


def _plotly_code() -> ipywidgets.Widget:
    """The kernel's one model with plotly's code for the browser; a new one after `Widget.close_all()`."""
    if not _code_models or _code_models[-1].comm is None:
        _code_models[:] = [ipywidgets.Textarea(str(go.FigureWidget._esm))]  # never shown
    return _code_models[-1]


def wide(figure: go.Figure) -> SharedFigure:
    """The figure as a SharedFigure."""
    shown = SharedFigure(figure)
    shown._config = shown._config | {"responsive": True}
    return shown
