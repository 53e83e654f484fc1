"""Images in one folder a class, decoded while training goes on, for sets larger than memory."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rung.extras import require
from rung.train.data.files import DataError
from rung.train.data.image_files import as_rgb, listing

_Pixels = npt.NDArray[np.float32]

# Of ImageNet's training images, in pixel units; its networks take all images shifted by them.
_MEAN = 255 * np.array((0.485, 0.456, 0.406), dtype=np.float32)[:, None, None]
_STD = 255 * np.array((0.229, 0.224, 0.225), dtype=np.float32)[:, None, None]

_LONGEST = 4 / 3
_TRIES = 10
_BATCHES_AHEAD = 2


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Paths and classes of images that are decoded when they are needed.

    Attributes:
        train: Path and class of every training image, by class and name.
        test: Likewise of the test images.
        classes: Number of classes.
        source: One line: how many images, from where.
    """

    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    classes: int
    source: str


def image_files(data_dir: str | Path) -> ImageFiles:
    """List the images of one folder a class, without opening them.

    Args:
        data_dir: Folder as `image_folder` reads it.

    Raises:
        DataError: A folder is missing or has no classes, a class has no images, or the test part
            has a class that the training part lacks.
        ImportError: Pillow is not installed; the text names the pip command.
    """
    require("PIL.Image")
    folder, test_folder, classes, *parts = listing(data_dir)
    places = {name: place for place, name in enumerate(classes)}
    train, test = (tuple((path, places[name]) for path, name in part) for part in parts)
    source = (
        f"images: {len(train):,} train + {len(test):,} test ({test_folder.name}) of "
        f"{len(classes)} classes, decoded while training, files in {folder}"
    )
    return ImageFiles(train, test, len(classes), source)


class RandomCrop:
    """A part of an image, of random place, size and shape, resized to a square; mirrored or not.

    What is drawn for an image depends on the key and the image's place in the epoch alone: not on
    which thread decodes it, nor on what was drawn before.

    Args:
        size: Side of the square in pixels.
        least_area: Smallest share of the image that is kept.
        flip: Mirror half of the images.
        key: Seeds the draws of one epoch.

    Source: C. Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842, 2014, section 6;
    the shares and the ten tries are torchvision's.
    """

    def __init__(self, size: int, least_area: float, flip: bool, key: int) -> None:
        self.size, self.least_area, self.flip, self.key = size, least_area, flip, key

    def __call__(self, image: Any, place: int) -> Any:
        """The square of an image of Pillow, at a place in the epoch."""
        pillow = require("PIL.Image")
        draws = np.random.Generator(np.random.Philox(key=[self.key, place]))
        width, height = image.size
        box = self._box(width, height, draws)
        square = image.resize((self.size, self.size), pillow.Resampling.BILINEAR, box)
        mirrored = self.flip and draws.random() < 0.5
        return square.transpose(pillow.Transpose.FLIP_LEFT_RIGHT) if mirrored else square

    def _box(
        self, width: int, height: int, draws: np.random.Generator
    ) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        for _ in range(_TRIES):
            area = width * height * draws.uniform(self.least_area, 1.0)
            ratio = math.exp(draws.uniform(-math.log(_LONGEST), math.log(_LONGEST)))
            across, along = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < across <= width and 0 < along <= height:
                left = int(draws.integers(width - across, endpoint=True))
                top = int(draws.integers(height - along, endpoint=True))
                return left, top, left + across, top + along
        # Longer than any crop may be: the middle, as long as is allowed.
        across, along = min(width, round(_LONGEST * height)), min(height, round(_LONGEST * width))
        left, top = (width - across) // 2, (height - along) // 2
        return left, top, left + across, top + along


class CenterCrop:
    """The square in the middle, had the image been resized to a shorter side of `resize`.

    Args:
        size: Side of the square in pixels, at most `resize`.
        resize: Shorter side.
    """

    def __init__(self, size: int, resize: int) -> None:
        self.size, self.resize = size, resize

    def __call__(self, image: Any, place: int) -> Any:
        """The square of an image of Pillow; the place plays no part."""
        pillow = require("PIL.Image")
        width, height = image.size
        side = min(width, height) * self.size / self.resize
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return image.resize((self.size, self.size), pillow.Resampling.BILINEAR, box)


def stream(
    files: tuple[tuple[Path, int], ...],
    batches: Iterable[tuple[list[int], int]],
    crop: Callable[[Any, int], Any],
    size: int,
    workers: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Decode batches of images on threads, some batches ahead of what is asked for.

    Pillow lets go of the interpreter while it decodes and resizes, so threads do for processes.

    Args:
        files: Path and class of each image.
        batches: Of each batch the places in `files`, and the place in the epoch of its first image.
        crop: From an image and its place in the epoch to a square of `size`.
        size: Side of the images in pixels.
        workers: Number of threads; the result doesn't depend on it.

    Yields:
        Images (B, 3, size, size), float32, shifted and scaled by ImageNet's moments, and classes
        (B,), int64.

    Raises:
        DataError: An image can't be decoded; the text names the file.
    """
    pool = ThreadPoolExecutor(workers)
    ahead: deque[tuple[_Pixels, list[int], list[Future[None]]]] = deque()

    def begin(indices: list[int], first: int) -> None:
        images = np.empty((len(indices), 3, size, size), dtype=np.float32)
        tasks = [
            pool.submit(_fill, images, row, files[index][0], crop, first + row)
            for row, index in enumerate(indices)
        ]
        ahead.append((images, indices, tasks))

    def finished() -> tuple[Tensor, Tensor]:
        images, indices, tasks = ahead.popleft()
        for task in tasks:
            task.result()
        return torch.from_numpy(images), torch.tensor([files[index][1] for index in indices])

    try:
        for indices, first in batches:
            begin(indices, first)
            if len(ahead) > _BATCHES_AHEAD:
                yield finished()
        while ahead:
            yield finished()
    finally:
        # A stopped run leaves with batches ahead that nobody waits for.
        pool.shutdown(cancel_futures=True)


def _fill(
    images: _Pixels, row: int, path: Path, crop: Callable[[Any, int], Any], place: int
) -> None:
    """Decode one image into its row of a batch."""
    pixels = np.asarray(crop(_opened(path), place), dtype=np.float32)
    images[row] = (pixels.transpose(2, 0, 1) - _MEAN) / _STD


def _opened(path: Path) -> Any:
    """An image turned as its camera says, RGB, of 16-bit grey the upper 8 bits."""
    pillow, ops = require("PIL.Image"), require("PIL.ImageOps")
    try:
        with pillow.open(path) as opened:
            return as_rgb(pillow, ops.exif_transpose(opened), path)
    except DataError:
        raise
    # Decoders of damaged files raise nearly anything, DecompressionBombError among it.
    except Exception as error:
        raise DataError(
            f"{path} must be an image that Pillow can decode; got: {error}. Replace or remove it."
        ) from error
