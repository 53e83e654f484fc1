"""IDX files, the format of MNIST, and Fashion-MNIST that is kept in it."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rung.train.data.files import DataError, existing_folder, read_bytes, required_file
from rung.train.data.images import ImageData, official_name

_ORIGIN = (
    "Fashion-MNIST from the Debian package dataset-fashion-mnist "
    "(/usr/share/datasets/fashion-mnist) or github.com/zalandoresearch/fashion-mnist"
)
_UNSIGNED_BYTE = 0x08
_CLASSES = 10


def read_idx(path: Path, dimensions: int, origin: str) -> Tensor:
    """Read an IDX file of unsigned bytes.

    Layout, big-endian: 0, 0, type 0x08, number of dimensions; one uint32 a dimension; the bytes.

    Args:
        path: The file; ``.gz`` and ``.xz`` are decompressed.
        dimensions: Number of dimensions that it must have: 3 for images, 1 for labels.
        origin: Where a sound copy can be had; quoted in the errors.

    Returns:
        uint8 tensor of the shape that the header states.

    Raises:
        DataError: Unreadable file, another magic number, or a length that the header denies.

    References:
        Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section
        "File formats".
    """
    content = read_bytes(path, origin)
    header_bytes = 4 + 4 * dimensions
    expected = bytes((0, 0, _UNSIGNED_BYTE, dimensions))
    if content[:4] != expected:
        raise DataError(
            f"{path} must start with the IDX magic number 0x{expected.hex()}; got "
            f"0x{content[:4].hex()}. Get {origin}."
        )
    if len(content) < header_bytes:
        raise DataError(
            f"{path} must have an IDX header of {header_bytes} bytes; got a file of "
            f"{len(content)} bytes. Get {origin}."
        )
    sizes = [int(size) for size in np.frombuffer(content, ">u4", count=dimensions, offset=4)]
    if len(content) != header_bytes + math.prod(sizes):
        shape = " x ".join(str(size) for size in sizes)
        raise DataError(
            f"{path} must hold {shape} = {math.prod(sizes)} bytes after its header; got "
            f"{len(content) - header_bytes}. Get {origin}."
        )
    # bytearray: torch wants memory that it may write to.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header_bytes:].reshape(sizes)


def fashion_mnist(data_dir: str | Path) -> ImageData:
    """Read Fashion-MNIST from its four IDX files.

    Args:
        data_dir: Folder with ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
            ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, each plain, .gz or .xz.

    Returns:
        Images of shape (N, 1, 28, 28); 10 classes.

    Raises:
        DataError: A file is missing or damaged, or images and labels differ in number.

    References:
        H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
        Machine Learning Algorithms", arXiv:1708.07747, 2017.
    """
    folder = existing_folder(data_dir, _ORIGIN)
    train_images, train_labels = _read_part(folder, "train")
    test_images, test_labels = _read_part(folder, "t10k")
    height, width = train_images.shape[2:]
    # MNIST's files bear the same names; its classes are not of equal size.
    name = official_name("Fashion-MNIST", train_labels, test_labels, 6000, 1000)
    return ImageData(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        classes=_CLASSES,
        source=(
            f"{name}: {len(train_images):,} train + {len(test_images):,} test images "
            f"{height}x{width}, IDX files in {folder}"
        ),
    )


def _read_part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    image_path = required_file(folder, [f"{part}-images-idx3-ubyte"], _ORIGIN)
    label_path = required_file(folder, [f"{part}-labels-idx1-ubyte"], _ORIGIN)
    images = read_idx(image_path, 3, _ORIGIN)
    labels = read_idx(label_path, 1, _ORIGIN)
    if len(images) != len(labels) or images.numel() == 0:
        raise DataError(
            f"{image_path} and {label_path} must hold the same number, at least 1; got "
            f"{len(images)} images and {len(labels)} labels. Get {_ORIGIN}."
        )
    if int(labels.max()) >= _CLASSES:
        raise DataError(
            f"{label_path} must hold labels 0..{_CLASSES - 1}; got {int(labels.max())}. "
            f"Get {_ORIGIN}."
        )
    return images.unsqueeze(1), labels.to(torch.int64)  # (N, H, W) -> (N, 1, H, W)
