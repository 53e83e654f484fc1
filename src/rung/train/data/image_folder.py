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
from rung.train.data.files import DataError, existing_folder
from rung.train.data.images import ImageData

_TEST_FOLDERS = ("val", "test", "valid")
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_ORIGIN = (
    "images laid out as train/CLASS/NAME.jpg and val/CLASS/NAME.jpg (or test/), any names, "
    f"{', '.join(sorted(_SUFFIXES))}"
)
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
    folder = existing_folder(data_dir, _ORIGIN)
    train_folder, test_folder = _part(folder, ("train",)), _part(folder, _TEST_FOLDERS)
    classes = _classes(train_folder)
    strange = sorted(set(_classes(test_folder)) - set(classes))
    if strange:
        raise DataError(
            f"{test_folder} must have classes of {train_folder} only; got {', '.join(strange)} "
            f"too. Get {_ORIGIN}."
        )
    train = _list(train_folder, classes)
    test = _list(test_folder, [name for name in classes if (test_folder / name).is_dir()])
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


def _part(folder: Path, names: Sequence[str]) -> Path:
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    if found is None:
        raise DataError(
            f"{folder} must hold a folder {' or '.join(names)}; got none. Get {_ORIGIN}."
        )
    return found


def _classes(folder: Path) -> list[str]:
    names = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not names:
        raise DataError(
            f"{folder} must hold a folder for every class; got no folder. Get {_ORIGIN}."
        )
    return names


def _list(folder: Path, classes: Sequence[str]) -> list[tuple[Path, str]]:
    found = []
    for name in classes:
        # Sorted, for the order of a folder differs between machines, and with it the training.
        paths = sorted(
            path
            for path in (folder / name).rglob("*")
            if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
        if not paths:
            raise DataError(
                f"{folder / name} must hold images of its class; got none. Get {_ORIGIN}."
            )
        found += [(path, name) for path in paths]
    return found


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
            image = _as_rgb(pillow, ops.exif_transpose(opened), path)
        return np.asarray(_middle(image, side, pillow.Resampling.BICUBIC))
    except DataError:
        raise
    # Decoders of damaged files raise nearly anything, DecompressionBombError among it.
    except Exception as error:
        raise DataError(
            f"{path} must be an image that Pillow can decode; got: {error}. Replace or remove it."
        ) from error


def _as_rgb(pillow: Any, image: Any, path: Path) -> Any:
    """8 bits a channel; Pillow would clip what has more."""
    if image.mode in ("I", "F"):
        raise DataError(
            f"{path} must have 8 or 16 bits a channel; got Pillow's mode {image.mode!r}, 32-bit "
            "numbers whose range nothing tells. Save it as 8-bit grey or RGB, or remove it."
        )
    if image.mode.startswith("I;16"):
        # The upper 8 bits, which Pillow takes of 16-bit colour too.
        image = pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


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
