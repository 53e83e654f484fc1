"""Images in one folder a class, decoded by Pillow."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rung.extras import require
from rung.train.data.files import DataError
from rung.train.data.image_files import as_rgb, listing
from rung.train.data.images import ImageData

_THREADS = 4

_Pixels = npt.NDArray[np.uint8]


def image_folder(data_dir: str | Path, side: int, memory_gib: float = 8.0) -> ImageData:
    """Read images from one folder a class; all of them are decoded at once and stay in memory.

    So a damaged image is found before training begins. An image is turned as its camera says,
    made RGB (of 16-bit grey the upper 8 bits), resized (bicubic) until its shorter side has
    ``side`` pixels, and cropped to the square in the middle.

    Args:
        data_dir: Folder with ``train`` and ``val`` (or ``test``, or ``valid``), each with a folder
            for every class, whose images lie in it or below. Classes are numbered in the order of
            their names. Hidden files, and those of other kinds, are passed over.
        side: Side S of the images in pixels, at least 1.
        memory_gib: Most memory for the decoded images, 3 S^2 bytes each, in GiB.

    Returns:
        Images of shape (N, 3, S, S).

    Raises:
        DataError: A folder is missing or has no classes, a class has no images, the test part has
            a class that the training part lacks, an image can't be decoded or has 32 bits a
            pixel of one channel, or they need more memory than allowed.
        ImportError: Pillow is not installed; the text names the pip command.
    """
    pillow = require("PIL.Image")
    require("PIL.ImageOps")
    folder, test_folder, classes, train, test = listing(data_dir)
    _check_memory(len(train) + len(test), side, memory_gib)
    places = {name: place for place, name in enumerate(classes)}
    train_images, train_labels = _read(pillow, train, places, side)
    test_images, test_labels = _read(pillow, test, places, side)
    return ImageData(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=len(classes),
        source=(
            f"images: {len(train):,} train + {len(test):,} test ({test_folder.name}) of "
            f"{len(classes)} classes, {side}x{side}, files in {folder}"
        ),
    )


def _check_memory(count: int, side: int, memory_gib: float) -> None:
    need = count * 3 * side * side / 2**30
    if need > memory_gib:
        raise DataError(
            f"The decoded images must fit into memory_gib={memory_gib:g}; got {count:,} images of "
            f"{side}x{side}, which take {need:.2f} GiB. Choose a smaller `resize`, fewer images, "
            "or more memory by --set memory_gib=N."
        )


def _read(
    pillow: Any, found: Sequence[tuple[Path, str]], places: dict[str, int], side: int
) -> tuple[Tensor, Tensor]:
    images = np.empty((len(found), 3, side, side), dtype=np.uint8)

    def fill(index: int) -> None:
        images[index] = _decode(pillow, found[index][0], side).transpose(2, 0, 1)

    # Pillow lets go of the interpreter while it decodes; every image has a place of its own.
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(fill, range(len(found))):
            pass
    labels = torch.tensor([places[name] for _, name in found])
    return torch.from_numpy(images), labels


def _decode(pillow: Any, path: Path, side: int) -> _Pixels:
    ops = require("PIL.ImageOps")
    try:
        with pillow.open(path) as opened:
            image = as_rgb(pillow, ops.exif_transpose(opened), path)
        return np.asarray(_middle(image, side, pillow.Resampling.BICUBIC))
    except DataError:
        raise
    # Decoders of damaged files raise nearly anything, DecompressionBombError among it.
    except Exception as error:
        raise DataError(
            f"{path} must be an image that Pillow can decode; got: {error}. Replace or remove it."
        ) from error


def _middle(image: Any, side: int, bicubic: Any) -> Any:
    """The square in the middle of the image, had it been resized to a shorter side of `side`."""
    width, height = image.size
    short = min(width, height)
    size = (max(side, round(width * side / short)), max(side, round(height * side / short)))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    # In one go, for of a long image most would be resized for nothing: 1 x 60,000 pixels made
    # gigabytes.
    across, along = width / size[0], height / size[1]
    right, bottom = min((left + side) * across, width), min((top + side) * along, height)
    return image.resize((side, side), bicubic, (left * across, top * along, right, bottom))
