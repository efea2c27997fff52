"""What determines a run: RunConfig, and the named sets of its defaults."""

from .recipes import RECIPES, recipe_for
from .run_config import CUSTOM, RunConfig

__all__ = ["CUSTOM", "RECIPES", "RunConfig", "recipe_for"]
