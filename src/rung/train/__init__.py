"""Training: configurations, recipes, the loop and its run folder."""

from rung.train.config import Config, with_settings
from rung.train.display import Display, display_for
from rung.train.loop import run
from rung.train.recipes import RECIPES
from rung.train.recipes import get as get_recipe
from rung.train.sweep import sweep
from rung.train.sweep_grid import Grid

__all__ = [
    "RECIPES",
    "Config",
    "Display",
    "Grid",
    "display_for",
    "get_recipe",
    "run",
    "sweep",
    "with_settings",
]
