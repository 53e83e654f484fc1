"""digits-cnn: a small convolutional network on scikit-learn's digits; the quick start."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import digits
from rung.train.models import DigitsCNN
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
)
from rung.train.recipe_options import ImageOptions
from rung.train.recipes.defaults import Defaults, choose, default_format, refuse_data_dir
from rung.train.task import Recipe
from rung.train.tasks import ImageTask

# The bound of 5 RMS is 3 times the end of the uniform distribution that torch initialises from.
_DEFAULTS: Defaults = {
    "sgd": (0.05, SGDOptions(momentum=0.9)),
    "adam": (2e-3, AdamOptions()),
    "adamw": (2e-3, AdamOptions(weight_decay=0.01)),
    "madam": (0.02, MadamOptions(scale_bound=5.0)),
    "bbit-madam": (0.02, BBitMadamOptions(scale_bound=5.0)),
    "lns-madam": (0.029, LNSMadamOptions(scale_bound=5.0)),
    "lmd": (0.01, LMDOptions()),
}


def digits_cnn(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 30 epochs, batches of 32, shifts by a pixel, cosine."""
    lr, options = choose(_DEFAULTS, optimizer)
    return Config(
        recipe="digits-cnn",
        optimizer=optimizer,
        optimizer_options=options,
        options=ImageOptions(batch_size=32, crop_padding=1),
        lr=lr,
        epochs=30,
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
    assert isinstance(config.options, ImageOptions)
    data = digits()
    return ImageTask(data, config.options, lambda: DigitsCNN(data.classes), "accuracy")


RECIPE = Recipe(
    name="digits-cnn",
    model="2 convolutions, 2 linear layers, 0.1 M weights",
    data="scikit-learn's 1,797 digits (embedded)",
    metric="accuracy",
    configure=digits_cnn,
    build=build,
)
