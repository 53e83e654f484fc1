"""cifar100-resnet18: ResNet-18 in its CIFAR form on CIFAR-100."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import cifar100
from rung.train.recipes.resnet18 import resnet18_config, resnet18_task
from rung.train.task import Recipe
from rung.train.tasks import ImageTask

_FILES = "CIFAR-100's python files (cifar-100-python), from www.cs.toronto.edu/~kriz/cifar.html"


def cifar100_resnet18(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 200 epochs, crops with padding 4, lr / 10 on plateaus."""
    return resnet18_config("cifar100-resnet18", optimizer, crop_padding=4, epochs=200)


def build(config: Config) -> ImageTask:
    """Data and model of a configuration.

    Raises:
        ValueError: No data folder was given, or its files are missing or damaged.
    """
    return resnet18_task(config, cifar100, _FILES)


RECIPE = Recipe(
    name="cifar100-resnet18",
    model="ResNet-18, CIFAR form, 11 M weights at width 64",
    data="CIFAR-100, 50,000 + 10,000 images 32x32 (python batches)",
    metric="top-1 error",
    configure=cifar100_resnet18,
    build=build,
)
