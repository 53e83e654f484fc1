"""CIFAR-10 and CIFAR-100 from the official Python batches or their archive."""

import pickle
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rung.train.data.files import (
    DataError,
    existing_folder,
    present_file,
    read_bytes,
    required_file,
)
from rung.train.data.images import ImageData, official_name
from rung.train.data.restricted_pickle import load_dictionary

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Names and sizes of one of the two data sets."""

    name: str
    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: str
    classes: int

    @property
    def origin(self) -> str:
        """Where to get it, as the errors say it."""
        return (
            f"the {self.name} python version ({self.archive}) from "
            "www.cs.toronto.edu/~kriz/cifar.html"
        )


_CIFAR10 = _Layout(
    name="CIFAR-10",
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    train=tuple(f"data_batch_{index}" for index in range(1, 6)),
    test=("test_batch",),
    labels="labels",
    classes=10,
)
_CIFAR100 = _Layout(
    name="CIFAR-100",
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    train=("train",),
    test=("test",),
    labels="fine_labels",
    classes=100,
)


def cifar10(data_dir: str | Path) -> ImageData:
    """Read CIFAR-10 from its Python batches.

    Args:
        data_dir: Folder ``cifar-10-batches-py`` or its parent, files plain or .gz; or a folder
            with ``cifar-10-python.tar.gz``, which is read in place.

    Returns:
        Images of shape (N, 3, 32, 32); 10 classes.

    Raises:
        DataError: A file is missing, damaged, or holds more than arrays and labels.

    References:
        A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    return _read(_CIFAR10, data_dir)


def cifar100(data_dir: str | Path) -> ImageData:
    """Read CIFAR-100, fine labels, from its Python batches.

    Args:
        data_dir: Folder ``cifar-100-python`` or its parent, files plain or .gz; or a folder with
            ``cifar-100-python.tar.gz``, which is read in place.

    Returns:
        Images of shape (N, 3, 32, 32); 100 classes.

    Raises:
        DataError: A file is missing, damaged, or holds more than arrays and labels.

    References:
        A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    return _read(_CIFAR100, data_dir)


def _read(layout: _Layout, data_dir: str | Path) -> ImageData:
    folder = existing_folder(data_dir, layout.origin)
    place, read = _locate(layout, folder)
    train_images, train_labels = _join([read(name) for name in layout.train])
    test_images, test_labels = _join([read(name) for name in layout.test])
    per_class = 50_000 // layout.classes, 10_000 // layout.classes
    name = official_name(layout.name, train_labels, test_labels, *per_class)
    return ImageData(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=layout.classes,
        source=(
            f"{name}: {len(train_images):,} train + {len(test_images):,} test images 32x32, "
            f"python batches in {place}"
        ),
    )


_Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def _locate(layout: _Layout, folder: Path) -> tuple[Path, Callable[[str], _Batch]]:
    """Return where the batches are, and a function that reads one by its name."""
    for place in (folder, folder / layout.folder):
        if any(present_file(place, [name]) for name in layout.train + layout.test):
            return place, partial(_read_file, layout, place)
    archive = folder / layout.archive
    if archive.is_file():
        return archive, partial(_take, _read_archive(layout, archive), archive, layout)
    raise DataError(
        f"{folder} must hold {', '.join(layout.train + layout.test)} (plain, .gz or .xz), or "
        f"{layout.folder} with them, or {layout.archive}; got none of these. Get {layout.origin}."
    )


def _read_file(layout: _Layout, place: Path, name: str) -> _Batch:
    path = required_file(place, [name], layout.origin)
    return _parse(layout, path, read_bytes(path, layout.origin))


def _take(batches: dict[str, _Batch], archive: Path, layout: _Layout, name: str) -> _Batch:
    if name not in batches:
        raise DataError(
            f"{archive} must hold {layout.folder}/{name}; got an archive without it. "
            f"Get {layout.origin}."
        )
    return batches[name]


def _read_archive(layout: _Layout, archive: Path) -> dict[str, _Batch]:
    wanted = {f"{layout.folder}/{name}": name for name in layout.train + layout.test}
    batches: dict[str, _Batch] = {}
    try:
        # In the archive's own order: going back in a gzip stream means decompressing it again.
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.name in wanted else None
                if stream is not None:
                    batch = _parse(layout, archive / member.name, stream.read())
                    batches[wanted[member.name]] = batch
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{archive} must be a complete .tar.gz archive; got: {error}. Get {layout.origin}."
        ) from error
    return batches


def _parse(layout: _Layout, path: Path, content: bytes) -> _Batch:
    try:
        batch = load_dictionary(content)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} must be a pickled dictionary of arrays and labels; got: {error}. "
            f"Get {layout.origin}."
        ) from error
    missing = [key for key in ("data", layout.labels) if key not in batch]
    if missing:
        raise DataError(
            f"{path} must have the keys 'data' and {layout.labels!r}; got {sorted(batch)}. "
            f"Get {layout.origin}."
        )
    return _checked(layout, path, batch["data"], batch[layout.labels])


def _checked(layout: _Layout, path: Path, data: Any, labels: Any) -> _Batch:
    shape = data.shape if isinstance(data, np.ndarray) else type(data).__name__
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_PIXELS,):
        raise DataError(
            f"{path} must hold its images as uint8 of shape (N, {_PIXELS}); got {shape}. "
            f"Get {layout.origin}."
        )
    if not _are_labels(labels, layout.classes):
        raise DataError(
            f"{path} must hold its labels as a list of integers 0..{layout.classes - 1}; got "
            f"{_shortened(labels)}. Get {layout.origin}."
        )
    if len(labels) != len(data) or len(data) == 0:
        raise DataError(
            f"{path} must hold one label an image, and at least 1; got {len(data)} images and "
            f"{len(labels)} labels. Get {layout.origin}."
        )
    return data, np.asarray(labels, dtype=np.int64)


def _are_labels(labels: Any, classes: int) -> bool:
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, list):
        return False
    return all(isinstance(label, int) and 0 <= label < classes for label in labels)


def _shortened(value: Any, width: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= width else text[:width] + "..."


def _join(batches: Sequence[_Batch]) -> tuple[Tensor, Tensor]:
    # concatenate also copies: arrays from a pickle are read-only, which torch refuses.
    images = torch.from_numpy(np.concatenate([data for data, _ in batches]))
    labels = torch.from_numpy(np.concatenate([targets for _, targets in batches]))
    return images.view(-1, 3, 32, 32), labels  # rows are red, green, blue planes
