"""cifar10-cgan: a class-conditional GAN on CIFAR-10."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import ImageData, cifar10
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
    SignedMadamOptions,
)
from rung.train.recipe_options import GANOptions
from rung.train.recipes.defaults import Defaults, choose, default_format, required_data_dir
from rung.train.task import Recipe
from rung.train.tasks.features import (
    HOW_TO_TRAIN,
    Features,
    classifier_features,
    inception_features,
)
from rung.train.tasks.gan import GANTask

_FILES = "CIFAR-10's python batches (cifar-10-batches-py), from www.cs.toronto.edu/~kriz/cifar.html"

# Adam: Bernstein et al. 2020, table 1. GANs are trained without momentum, which would go on pushing
# a player after the other has moved; norms and biases take Adam's rate beside the Madams.
_DEFAULTS: Defaults = {
    "sgd": (1e-3, SGDOptions(momentum=0.0)),
    "adam": (1e-4, AdamOptions(beta1=0.0)),
    "adamw": (1e-4, AdamOptions(beta1=0.0)),
    "madam": (0.01, MadamOptions(additive_lr=1e-4)),
    "bbit-madam": (0.01, BBitMadamOptions(additive_lr=1e-4)),
    "lns-madam": (0.0144, LNSMadamOptions(additive_lr=1e-4)),
    "signed-madam": (0.04, SignedMadamOptions(additive_lr=1e-4)),
    "lmd": (0.01, LMDOptions()),
}


def cifar10_cgan(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 120 epochs in batches of 64, 94,000 steps, cosine."""
    lr, options = choose(_DEFAULTS, optimizer)
    return Config(
        recipe="cifar10-cgan",
        optimizer=optimizer,
        optimizer_options=options,
        # The generator's loss has no bound: minus what the discriminator says of its images.
        options=GANOptions(batch_size=64, max_loss=1000.0),
        lr=lr,
        epochs=120,
        schedule="cosine",
        format=default_format(optimizer),
    )


def build(config: Config) -> GANTask:
    """Data, model and the network that judges it.

    Raises:
        ValueError: No data folder was given, or its files are missing or damaged; neither a
            classifier nor Inception was given, or it can't be read.
    """
    options = config.options
    assert isinstance(options, GANOptions)
    folder = required_data_dir(config, _FILES)
    if options.classifier is None and options.inception is None:
        raise ValueError(
            "Recipe 'cifar10-cgan' compares images in the features of a network; got none. "
            f"{HOW_TO_TRAIN}; or give Inception-v3 as TorchScript by --set inception=FILE for an "
            "FID."
        )
    data = cifar10(folder)
    return GANTask(data, options, _features(options, data))


def _features(options: GANOptions, data: ImageData) -> Features:
    if options.classifier is not None:
        return classifier_features(options.classifier, data.classes, data.normalized)
    assert options.inception is not None
    return inception_features(options.inception)


RECIPE = Recipe(
    name="cifar10-cgan",
    model="conditional GAN: ResNets, projection, spectral norm, 5.4 M weights",
    data="CIFAR-10, 50,000 + 10,000 images 32x32 (python batches), and a trained classifier",
    metric="Frechet distance",
    configure=cifar10_cgan,
    build=build,
)
