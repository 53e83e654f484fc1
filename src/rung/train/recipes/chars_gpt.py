"""chars-gpt: a small GPT on characters of the standard library's documentation, or of any text."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import characters
from rung.train.models import GPT
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
)
from rung.train.recipe_options import CharacterOptions
from rung.train.recipes.defaults import Defaults, choose, default_format
from rung.train.task import Recipe
from rung.train.tasks import WindowTask

# GPT starts from weights several times smaller than torch's default; the bound makes up for it.
_DEFAULTS: Defaults = {
    "sgd": (0.1, SGDOptions(momentum=0.9, clip_norm=1.0)),
    "adam": (2e-3, AdamOptions(beta2=0.99, clip_norm=1.0)),
    "adamw": (2e-3, AdamOptions(beta2=0.99, weight_decay=0.1, clip_norm=1.0)),
    "madam": (0.02, MadamOptions(scale_bound=10.0)),
    "bbit-madam": (0.02, BBitMadamOptions(scale_bound=10.0)),
    "lns-madam": (0.029, LNSMadamOptions(scale_bound=10.0)),
    "lmd": (None, LMDOptions()),
}


def chars_gpt(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 10 epochs, 32 windows of 128 characters, cosine."""
    lr, options = choose(_DEFAULTS, optimizer)
    return Config(
        recipe="chars-gpt",
        optimizer=optimizer,
        optimizer_options=options,
        options=CharacterOptions(batch_size=32, eval_batch_size=32, max_loss=100.0),
        lr=lr,
        epochs=10,
        schedule="cosine",
        format=default_format(optimizer),
    )


def build(config: Config) -> WindowTask:
    """Data and model of a configuration; the data folder may be a text file.

    Raises:
        ValueError: The text is missing, damaged or too short.
    """
    options = config.options
    assert isinstance(options, CharacterOptions)
    data = characters(config.data_dir, options.valid_fraction)
    return WindowTask(
        data,
        options,
        lambda characters: GPT(
            characters,
            layers=options.layers,
            width=options.width,
            heads=options.heads,
            context=options.context,
            dropout=options.dropout,
        ),
        "character",
    )


RECIPE = Recipe(
    name="chars-gpt",
    model="GPT, 4 layers, width 128, 0.8 M weights",
    data="the standard library's pydoc_data.topics (embedded), or any text file",
    metric="loss per character",
    configure=chars_gpt,
    build=build,
)
