"""Controls around the figures of `plots`: they move sliders and redraw, and compute nothing of their own."""

from .controls import explore, replace_contents
from .live import REDRAW_SECONDS, LiveCurves

__all__ = ["REDRAW_SECONDS", "LiveCurves", "explore", "replace_contents"]
