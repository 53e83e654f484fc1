"""digits-vit: a small vision transformer on scikit-learn's digits; trains in seconds."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import digits
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
)
from rung.train.recipe_options import ViTOptions
from rung.train.recipes.defaults import Defaults, choose, default_format, refuse_data_dir
from rung.train.recipes.vit import build_vit
from rung.train.task import Recipe
from rung.train.tasks import ImageTask

_DEFAULTS: Defaults = {
    "sgd": (0.05, SGDOptions(momentum=0.9, clip_norm=1.0)),
    "adam": (1e-3, AdamOptions()),
    "adamw": (1e-3, AdamOptions(weight_decay=0.05)),
    "madam": (0.02, MadamOptions(scale_bound=10.0)),
    "bbit-madam": (0.02, BBitMadamOptions(scale_bound=10.0)),
    "lns-madam": (0.029, LNSMadamOptions(scale_bound=10.0)),
    "lmd": (None, LMDOptions()),
}


def digits_vit(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 40 epochs, batches of 32, shifts by up to a pixel, cosine."""
    lr, options = choose(_DEFAULTS, optimizer)
    return Config(
        recipe="digits-vit",
        optimizer=optimizer,
        optimizer_options=options,
        options=ViTOptions(
            batch_size=32,
            crop_padding=1,
            preset="vit_digits",
            # 0.5 / sqrt(width). At 0.02 positions are lost beside patches of 4 pixels, and AdamW
            # begins to learn much later.
            initial_std=0.07,
            patch=2,
        ),
        lr=lr,
        epochs=40,
        schedule="cosine",
        format=default_format(optimizer),
        # Layers this small gain little from a second thread, and lose much on a busy machine.
        threads=1,
    )


def build(config: Config) -> ImageTask:
    """Data and model of a configuration.

    Raises:
        ValueError: A data folder was given; this recipe reads none.
        ImportError: scikit-learn is missing.
    """
    refuse_data_dir(config)
    options = config.options
    assert isinstance(options, ViTOptions)
    data = digits()
    _, channels, side, _ = data.train_images.shape
    return ImageTask(
        data, options, lambda: build_vit(options, data.classes, channels, side), "accuracy"
    )


RECIPE = Recipe(
    name="digits-vit",
    model="ViT, 4 layers, width 64, 0.2 M weights",
    data="scikit-learn's 1,797 digits (embedded)",
    metric="accuracy",
    configure=digits_vit,
    build=build,
)
