"""Training: configurations, recipes, the loop and its run folder."""

from rung.train.config import Config, with_settings
from rung.train.display import Display, display_for
from rung.train.loop import run
from rung.train.recipes import RECIPES
from rung.train.recipes import get as get_recipe

__all__ = [
    "RECIPES",
    "Config",
    "Display",
    "display_for",
    "get_recipe",
    "run",
    "with_settings",
]
