"""fashion-resnet18: ResNet-18 in its CIFAR form on Fashion-MNIST."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import fashion_mnist
from rung.train.recipes.resnet18 import resnet18_config, resnet18_task
from rung.train.task import Recipe
from rung.train.tasks import ImageTask

_FILES = (
    "the four Fashion-MNIST IDX files, e.g. /usr/share/datasets/fashion-mnist of Debian's package "
    "dataset-fashion-mnist"
)


def fashion_resnet18(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 30 epochs, crops with padding 2, lr / 10 on plateaus."""
    return resnet18_config("fashion-resnet18", optimizer, crop_padding=2, epochs=30)


def build(config: Config) -> ImageTask:
    """Data and model of a configuration.

    Raises:
        ValueError: No data folder was given, or its files are missing or damaged.
    """
    return resnet18_task(config, fashion_mnist, _FILES)


RECIPE = Recipe(
    name="fashion-resnet18",
    model="ResNet-18, CIFAR form, 11 M weights at width 64",
    data="Fashion-MNIST, 60,000 + 10,000 images 28x28 (IDX files)",
    metric="top-1 error",
    configure=fashion_resnet18,
    build=build,
)
