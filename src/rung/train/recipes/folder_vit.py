"""folder-vit: a vision transformer on images in one folder a class, read by Pillow."""

from rung.train.config import DEFAULT_OPTIMIZER, Config
from rung.train.data import image_folder
from rung.train.models.vit import require_patches
from rung.train.recipe_options import FolderViTOptions
from rung.train.recipes.defaults import required_data_dir
from rung.train.recipes.vit import build_vit, vit_config
from rung.train.task import Recipe
from rung.train.tasks import ImageTask

_FILES = "train/CLASS/NAME.jpg and val/CLASS/NAME.jpg (or test/), any names"
_CHANNELS = 3


def folder_vit(optimizer: str = DEFAULT_OPTIMIZER) -> Config:
    """Configuration for an optimizer: 100 epochs, images of 224 pixels, patches of 16, cosine."""
    options = FolderViTOptions(batch_size=128, eval_batch_size=128, flip=True, warmup_steps=50)
    return vit_config("folder-vit", optimizer, options, epochs=100)


def build(config: Config) -> ImageTask:
    """Data and model of a configuration.

    Raises:
        ValueError: No data folder was given, it has no classes, an image is damaged, the images
            take too much memory, or their side is no multiple of the patch.
        ImportError: Pillow is missing.
    """
    options = config.options
    assert isinstance(options, FolderViTOptions)
    # Before the images are decoded, which may take minutes.
    require_patches(options.image_size, options.patch)
    # 256 pixels for a crop of 224, as published models are evaluated.
    side = options.resize or round(options.image_size * 8 / 7)
    data = image_folder(required_data_dir(config, _FILES), side, options.memory_gib)
    return ImageTask(
        data,
        options,
        lambda: build_vit(options, data.classes, _CHANNELS, options.image_size),
        "accuracy",
        options.image_size,
    )


RECIPE = Recipe(
    name="folder-vit",
    model="ViT-tiny, 12 layers, width 192, 5.5 M weights",
    data="images in one folder a class (needs Pillow)",
    metric="accuracy",
    configure=folder_vit,
    build=build,
)
