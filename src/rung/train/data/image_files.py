"""Folders of images, one a class: their listing and their pixels, for all that read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rung.train.data.files import DataError, existing_folder

_TEST_FOLDERS = ("val", "test", "valid")
_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_ORIGIN = (
    "images laid out as train/CLASS/NAME.jpg and val/CLASS/NAME.jpg (or test/), any names, "
    f"{', '.join(sorted(_SUFFIXES))}"
)


class Listing(NamedTuple):
    """Paths and names of classes of all images.

    Attributes:
        folder: Of both parts.
        test_folder: Of the test part.
        classes: Names in their order, whose places are the labels.
        train: Path and class of every training image.
        test: Likewise of the test images.
    """

    folder: Path
    test_folder: Path
    classes: list[str]
    train: list[tuple[Path, str]]
    test: list[tuple[Path, str]]


def listing(data_dir: str | Path) -> Listing:
    """What images there are; none is opened.

    Raises:
        DataError: A folder is missing or has no classes, a class has no images, or the test part
            has a class that the training part lacks.
    """
    folder = existing_folder(data_dir, _ORIGIN)
    train_folder, test_folder = _part(folder, ("train",)), _part(folder, _TEST_FOLDERS)
    classes = _classes(train_folder)
    strange = sorted(set(_classes(test_folder)) - set(classes))
    if strange:
        raise DataError(
            f"{test_folder} must have classes of {train_folder} only; got {', '.join(strange)} "
            f"too. Get {_ORIGIN}."
        )
    tested = [name for name in classes if (test_folder / name).is_dir()]
    train, test = _list(train_folder, classes), _list(test_folder, tested)
    return Listing(folder, test_folder, classes, train, test)


def _part(folder: Path, names: Sequence[str]) -> Path:
    """The first of some folders that is there."""
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    if found is None:
        raise DataError(
            f"{folder} must hold a folder {' or '.join(names)}; got none. Get {_ORIGIN}."
        )
    return found


def _classes(folder: Path) -> list[str]:
    """Names of its folders in their order."""
    names = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not names:
        raise DataError(
            f"{folder} must hold a folder for every class; got no folder. Get {_ORIGIN}."
        )
    return names


def _list(folder: Path, classes: Sequence[str]) -> list[tuple[Path, str]]:
    """Path and class of every image."""
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


def as_rgb(pillow: Any, image: Any, path: Path) -> Any:
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
