"""What the recipes of GPTs on words and on token files share."""

from rung.train.config import Config
from rung.train.models import GPT
from rung.train.models.gpt import preset_size
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
)
from rung.train.recipe_options import GPTOptions
from rung.train.recipes.defaults import Defaults, choose, default_format

# nanoGPT's AdamW; as in chars-gpt, the bound makes up for weights that start small.
_DEFAULTS: Defaults = {
    "sgd": (0.1, SGDOptions(momentum=0.9, clip_norm=1.0)),
    "adam": (6e-4, AdamOptions(beta2=0.95, clip_norm=1.0)),
    "adamw": (6e-4, AdamOptions(beta2=0.95, weight_decay=0.1, clip_norm=1.0)),
    "madam": (0.01, MadamOptions(scale_bound=10.0)),
    "bbit-madam": (0.01, BBitMadamOptions(scale_bound=10.0)),
    "lns-madam": (0.0144, LNSMadamOptions(scale_bound=10.0)),
    "lmd": (None, LMDOptions()),
}


def gpt_config(recipe: str, optimizer: str, options: GPTOptions, epochs: int) -> Config:
    """Configuration of a recipe: its options, cosine, an optimizer's defaults."""
    lr, optimizer_options = choose(_DEFAULTS, optimizer)
    return Config(
        recipe=recipe,
        optimizer=optimizer,
        optimizer_options=optimizer_options,
        options=options,
        lr=lr,
        epochs=epochs,
        schedule="cosine",
        format=default_format(optimizer),
    )


def build_gpt(options: GPTOptions, vocabulary_size: int) -> GPT:
    """The model of a recipe's options.

    Raises:
        ValueError: The heads don't divide the width.
    """
    size = preset_size(options.preset)
    return GPT(
        vocabulary_size,
        layers=options.layers or size.layers,
        width=options.width or size.width,
        heads=options.heads or size.heads,
        context=options.context,
        dropout=options.dropout,
        bias=options.bias,
    )
