"""cifar10-vit: a small vision transformer on CIFAR-10, from scratch."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import cifar10
from rung.train.recipe_options import ViTOptions
from rung.train.recipes.defaults import required_data_dir
from rung.train.recipes.vit import build_vit, vit_config
from rung.train.task import Recipe
from rung.train.tasks import ImageTask

_FILES = "CIFAR-10's python batches (cifar-10-batches-py), from www.cs.toronto.edu/~kriz/cifar.html"


def cifar10_vit(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 100 epochs, patches of 4, crops with padding 4, cosine."""
    options = ViTOptions(batch_size=128, crop_padding=4, flip=True, patch=4, warmup_steps=300)
    return vit_config("cifar10-vit", optimizer, options, epochs=100)


def build(config: Config) -> ImageTask:
    """Data and model of a configuration.

    Raises:
        ValueError: No data folder was given, or its files are missing or damaged.
    """
    options = config.options
    assert isinstance(options, ViTOptions)
    data = cifar10(required_data_dir(config, _FILES))
    _, channels, side, _ = data.train_images.shape
    return ImageTask(
        data, options, lambda: build_vit(options, data.classes, channels, side), "accuracy"
    )


RECIPE = Recipe(
    name="cifar10-vit",
    model="ViT-tiny, 12 layers, width 192, 5.4 M weights",
    data="CIFAR-10, 50,000 + 10,000 images 32x32 (python batches)",
    metric="accuracy",
    configure=cifar10_vit,
    build=build,
)
