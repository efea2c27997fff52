"""Interactive explorers: controls above the figures of `plots`, redrawn when a control changes."""

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
