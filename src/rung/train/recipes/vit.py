"""What the recipes of vision transformers share."""

from rung.train.config import Config
from rung.train.models import ViT
from rung.train.models.vit import preset_size
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
)
from rung.train.recipe_options import ViTOptions
from rung.train.recipes.defaults import Defaults, choose, default_format

# As for GPT, the weights start small, and the bound makes up for it.
_DEFAULTS: Defaults = {
    "sgd": (0.05, SGDOptions(momentum=0.9, clip_norm=1.0)),
    "adam": (1e-3, AdamOptions()),
    "adamw": (1e-3, AdamOptions(weight_decay=0.05)),
    "madam": (0.01, MadamOptions(scale_bound=10.0)),
    "bbit-madam": (0.01, BBitMadamOptions(scale_bound=10.0)),
    "lns-madam": (0.0144, LNSMadamOptions(scale_bound=10.0)),
    "lmd": (None, LMDOptions()),
}


def vit_config(recipe: str, optimizer: str, options: ViTOptions, epochs: int) -> Config:
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


def build_vit(options: ViTOptions, classes: int, channels: int, image_size: int) -> ViT:
    """The model of a recipe's options.

    Args:
        options: Preset, and what differs from it.
        classes: Number of classes.
        channels: Channels of the images.
        image_size: Side of the images in pixels.

    Raises:
        ValueError: The patch doesn't divide the side of the images, or the heads the width.
    """
    size = preset_size(options.preset)
    return ViT(
        classes,
        image_size=image_size,
        patch=options.patch,
        channels=channels,
        layers=options.layers or size.layers,
        width=options.width or size.width,
        heads=options.heads or size.heads,
        dropout=options.dropout,
        initial_std=options.initial_std,
    )
