"""ltkd: distil balanced knowledge from a biased teacher."""

from . import datasets, losses, methods, models
from .config import RunConfig
from .datasets import SOURCES as DATASETS
from .datasets import load as load_dataset
from .decomposition import Decomposition, decompose, group_mass
from .errors import ConfigError, DataError, Interrupted, LtkdError, ResultWarning, RunError, SweepError
from .groups import ClassGroups
from .losses import rebalance
from .methods import METHODS, Method, Option, Step, Task
from .models import MODELS, FeatureOutput, Teacher
from .models import build as build_model
from .reproduce.sweep import sweep
from .runs import Run
from .training.fit import fit

__version__ = "0.2.0"

__all__ = [
    "DATASETS",
    "METHODS",
    "MODELS",
    "ClassGroups",
    "ConfigError",
    "DataError",
    "Decomposition",
    "FeatureOutput",
    "Interrupted",
    "LtkdError",
    "Method",
    "Option",
    "ResultWarning",
    "Run",
    "RunConfig",
    "RunError",
    "Step",
    "SweepError",
    "Task",
    "Teacher",
    "build_model",
    "datasets",
    "decompose",
    "fit",
    "group_mass",
    "load_dataset",
    "losses",
    "methods",
    "models",
    "rebalance",
    "sweep",
]
