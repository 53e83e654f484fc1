"""What the three ResNet-18 recipes share."""

from collections.abc import Callable

from rung.train.config import Config
from rung.train.data import ImageData
from rung.train.models import resnet18
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
)
from rung.train.recipe_options import ResNetOptions
from rung.train.recipes.defaults import Defaults, choose, default_format, required_data_dir
from rung.train.tasks import ImageTask

# SGD and Adam: the learning rates of Bernstein et al. 2020, table 1; Madam: 0.01 everywhere.
_DEFAULTS: Defaults = {
    "sgd": (0.1, SGDOptions(momentum=0.9, weight_decay=5e-4)),
    "adam": (1e-3, AdamOptions()),
    "adamw": (1e-3, AdamOptions(weight_decay=0.01)),
    "madam": (0.01, MadamOptions()),
    "bbit-madam": (0.01, BBitMadamOptions()),
    "lns-madam": (0.0144, LNSMadamOptions()),
    "lmd": (0.01, LMDOptions()),
}


def resnet18_config(recipe: str, optimizer: str, crop_padding: int, epochs: int) -> Config:
    """Configuration: batches of 128, random crops and mirroring, lr / 10 on plateaus."""
    lr, options = choose(_DEFAULTS, optimizer)
    return Config(
        recipe=recipe,
        optimizer=optimizer,
        optimizer_options=options,
        options=ResNetOptions(batch_size=128, crop_padding=crop_padding, flip=True),
        lr=lr,
        epochs=epochs,
        schedule="plateau",
        format=default_format(optimizer),
    )


def resnet18_task(config: Config, read: Callable[[str], ImageData], files: str) -> ImageTask:
    """Data and model of a configuration.

    Args:
        config: The configuration.
        read: Reads the data folder.
        files: Which files the folder must hold, for the error.
    """
    options = config.options
    assert isinstance(options, ResNetOptions)
    data = read(required_data_dir(config, files))
    channels = data.train_images.shape[1]
    return ImageTask(
        data,
        options,
        lambda: resnet18(data.classes, in_channels=channels, width=options.width),
        "error",
    )
