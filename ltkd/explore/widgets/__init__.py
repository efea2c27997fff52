"""Controls around the figures of `plots`: they move sliders and redraw, and compute nothing of their own."""

from .controls import Explorer, explore, replace_contents
from .longtail import longtail_builder
from .run_browser import RunBrowser
from .run_list import RunList
from .teacher_bias import teacher_bias
from .terms import decomposition_explorer, loss_microscope
from .training_monitor import TrainingMonitor

__all__ = [
    "Explorer",
    "RunBrowser",
    "RunList",
    "TrainingMonitor",
    "decomposition_explorer",
    "explore",
    "longtail_builder",
    "loss_microscope",
    "replace_contents",
    "teacher_bias",
]
