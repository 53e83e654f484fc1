"""Augmentation of whole batches of images in torch; each image gets a draw of its own.

Draws are those of a generator on the CPU, wherever the images are.
Shape letters: N images, C channels, H height, W width, P padding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shift every image by its own random offset, filling with zeros.

    The same as padding with ``padding`` zeros on each side and cutting out the old size anywhere.

    Args:
        images: Shape (N, C, H, W), uint8 or floating, on any device.
        padding: Largest shift in pixels in each direction; 0 changes nothing.
        generator: Source of the offsets.

    Returns:
        Shape and dtype of ``images``.

    Raises:
        ValueError: ``images`` has not four dimensions, or ``padding`` is negative.
    """
    _check_images(images)
    if padding < 0:
        raise ValueError(
            f"`padding` must not be negative; got {padding}. Give 0 to leave images as they are."
        )
    count, _, height, width = images.shape
    shifts = _drawn(generator, 2 * padding + 1, (2, count), images)
    padded = F.pad(images, (padding, padding, padding, padding))
    # (N, C, H + 2P, W + 2P) -> view of every place: (N, C, 2P + 1, 2P + 1, H, W)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, shifts[0], shifts[1]]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror every image left to right with probability 1/2.

    Args:
        images: Shape (N, C, H, W), uint8 or floating, on any device.
        generator: Source of the choice.

    Returns:
        Shape and dtype of ``images``.

    Raises:
        ValueError: ``images`` has not four dimensions.
    """
    _check_images(images)
    draws = torch.rand(len(images), generator=generator, device=generator.device)
    mirrored = (draws < 0.5).view(-1, 1, 1, 1).to(images.device)  # (N,) -> (N, 1, 1, 1)
    return torch.where(mirrored, images.flip(-1), images)


def random_window(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cut a square of ``size`` pixels out of every image, at a place of its own.

    Args:
        images: Shape (N, C, H, W), uint8 or floating, on any device.
        size: Side of the square, 1 to the smaller of H and W.
        generator: Source of the places, all of which are equally likely.

    Returns:
        Shape (N, C, size, size), dtype of ``images``.

    Raises:
        ValueError: ``images`` has not four dimensions, or ``size`` doesn't fit into them.
    """
    _check_window(images, size)
    count, _, height, width = images.shape
    tops = _drawn(generator, height - size + 1, (count,), images)
    lefts = _drawn(generator, width - size + 1, (count,), images)
    # (N, C, H, W) -> view of every place: (N, C, H - size + 1, W - size + 1, size, size)
    windows = images.unfold(2, size, 1).unfold(3, size, 1)
    return windows[torch.arange(count, device=images.device), :, tops, lefts]


def center_window(images: Tensor, size: int) -> Tensor:
    """Cut the square of ``size`` pixels out of the middle of every image.

    Args:
        images: Shape (N, C, H, W).
        size: Side of the square, 1 to the smaller of H and W.

    Returns:
        Shape (N, C, size, size), a view of ``images``.

    Raises:
        ValueError: ``images`` has not four dimensions, or ``size`` doesn't fit into them.
    """
    _check_window(images, size)
    top, left = (images.shape[2] - size) // 2, (images.shape[3] - size) // 2
    return images[:, :, top : top + size, left : left + size]


def _drawn(generator: torch.Generator, end: int, shape: tuple[int, ...], images: Tensor) -> Tensor:
    """Integers from 0 to end - 1, beside the images: a device sees the draws that a CPU does."""
    draws = torch.randint(end, shape, generator=generator, device=generator.device)
    return draws.to(images.device)


def _check_window(images: Tensor, size: int) -> None:
    _check_images(images)
    if not 1 <= size <= min(images.shape[2:]):
        raise ValueError(
            f"`size` must lie in 1..{min(images.shape[2:])}, the smaller side of the images; got "
            f"{size}. Resize the images or cut a smaller square."
        )


def _check_images(images: Tensor) -> None:
    if images.dim() != 4:
        raise ValueError(
            f"`images` must have shape (N, C, H, W); got {tuple(images.shape)}. "
            "Add the missing dimension with unsqueeze."
        )
