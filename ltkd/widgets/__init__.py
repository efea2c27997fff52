"""Controls around the figures of `plots`: they move sliders and redraw, and compute nothing of their own."""

from .bias import teacher_bias
from .browser import RunBrowser
from .controls import Explorer, explore, replace_contents
from .longtail import longtail_builder
from .monitor import TrainingMonitor
from .shelf import Shelf
from .terms import decomposition_explorer, loss_microscope

__all__ = [
    "Explorer",
    "RunBrowser",
    "Shelf",
    "TrainingMonitor",
    "decomposition_explorer",
    "explore",
    "longtail_builder",
    "loss_microscope",
    "replace_contents",
    "teacher_bias",
]
