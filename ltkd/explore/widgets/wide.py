"""Figures as wide as the page."""

import anywidget
import plotly.graph_objects as go


class Fitter(anywidget.AnyWidget):
    """Nothing to see. Tells the page's figures whenever their width may have changed, at first when it is shown: a
    FigureWidget is drawn before it is in the page, 700 pixels wide, and then waits for a resized window."""

    _esm = """
    export default {
      render({ el }) {
        const observer = new ResizeObserver(() => window.dispatchEvent(new Event("resize")));
        observer.observe(el);
        return () => observer.disconnect();
      },
    };
    """


def wide(figure):
    """The figure as a FigureWidget that a Fitter below it keeps as wide as the page."""
    shown = go.FigureWidget(figure)
    shown._config = shown._config | {"responsive": True}
    return shown
