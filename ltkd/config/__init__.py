"""RunConfig, which determines a run, and the recipes, which are named sets of its defaults."""

from .recipes import RECIPES, recipe_for
from .run_config import CUSTOM, DataConfig, OptimizationConfig, RunConfig

__all__ = ["CUSTOM", "RECIPES", "DataConfig", "OptimizationConfig", "RunConfig", "recipe_for"]
