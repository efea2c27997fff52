"""Figures as wide as the page, which share one plotly.js."""

from pathlib import Path

import ipywidgets
import plotly
import plotly.graph_objects as go
import traitlets


class SharedFigure(go.FigureWidget):
    """A FigureWidget that loads in an instant and is as wide as the page.

    A plain FigureWidget brings the 5 MB of plotly along. Where several do on a busy machine, loading takes longer than
    the two seconds that anywidget grants, and the figure then hears nothing more from the kernel. Here they come from
    one model (`_plotly`), and the page evaluates them once.
    """

    _esm = Path(__file__).with_name("shared_figure.js").read_text("utf-8")
    _plotly = traitlets.Instance(ipywidgets.Widget).tag(sync=True, **ipywidgets.widget_serialization)
    _plotly_version = traitlets.Unicode(plotly.__version__).tag(sync=True)

    @traitlets.default("_plotly")
    def _one_for_all(self):
        return _source()


_sources = []


def _source():
    """The kernel's one model that holds plotly's code for the browser; a new one after `Widget.close_all()`."""
    if not _sources or _sources[-1].comm is None:
        _sources[:] = [ipywidgets.Textarea(str(go.FigureWidget._esm))]  # which is never shown
    return _sources[-1]


def wide(figure):
    """The figure as a SharedFigure."""
    shown = SharedFigure(figure)
    shown._config = shown._config | {"responsive": True}
    return shown
