"""imagenet-resnet50: ResNet-50 on images in one folder a class, decoded while it trains."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data.image_stream import image_files
from rung.train.models.resnet50 import ResNet50
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
)
from rung.train.recipe_options import ResNet50Options
from rung.train.recipes.defaults import Defaults, choose, default_format, required_data_dir
from rung.train.task import Recipe
from rung.train.tasks.image_stream import ImageStreamTask

_FILES = "train/CLASS/NAME.jpg and val/CLASS/NAME.jpg (or test/), any names"

# SGD: the learning rate of Bernstein et al. 2020, table 1; Madam: 0.01 everywhere.
_DEFAULTS: Defaults = {
    "sgd": (0.1, SGDOptions(momentum=0.9, weight_decay=1e-4)),
    "adam": (1e-3, AdamOptions()),
    "adamw": (1e-3, AdamOptions(weight_decay=0.05)),
    "madam": (0.01, MadamOptions()),
    "bbit-madam": (0.01, BBitMadamOptions()),
    "lns-madam": (0.0144, LNSMadamOptions()),
    "lmd": (0.01, LMDOptions()),
}


def imagenet_resnet50(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 90 epochs in batches of 256, lr / 10 on plateaus."""
    lr, options = choose(_DEFAULTS, optimizer)
    return Config(
        recipe="imagenet-resnet50",
        optimizer=optimizer,
        optimizer_options=options,
        options=ResNet50Options(batch_size=256, eval_batch_size=256),
        lr=lr,
        epochs=90,
        schedule="plateau",
        format=default_format(optimizer),
    )


def build(config: Config) -> ImageStreamTask:
    """Data and model of a configuration.

    Raises:
        ValueError: No data folder was given, or it has no classes.
        ImportError: Pillow is missing.
    """
    options = config.options
    assert isinstance(options, ResNet50Options)
    files = image_files(required_data_dir(config, _FILES))
    return ImageStreamTask(files, options, lambda: ResNet50(files.classes, options.width))


RECIPE = Recipe(
    name="imagenet-resnet50",
    model="ResNet-50, 25.6 M weights at width 64",
    data="images in one folder a class, any number (needs Pillow)",
    metric="top-1 error",
    configure=imagenet_resnet50,
    build=build,
)
