"""Augmentation of whole batches of images in torch; each image gets a draw of its own.

Shape letters: N images, C channels, H height, W width, P padding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Shift every image by its own random offset, filling with zeros.

    The same as padding with ``padding`` zeros on each side and cutting out the old size anywhere.

    Args:
        images: Shape (N, C, H, W), uint8 or floating, on the generator's device.
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
    shifts = torch.randint(
        2 * padding + 1, (2, count), generator=generator, device=generator.device
    )
    padded = F.pad(images, (padding, padding, padding, padding))
    # (N, C, H + 2P, W + 2P) -> view of every place: (N, C, 2P + 1, 2P + 1, H, W)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, shifts[0], shifts[1]]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror every image left to right with probability 1/2.

    Args:
        images: Shape (N, C, H, W), uint8 or floating, on the generator's device.
        generator: Source of the choice.

    Returns:
        Shape and dtype of ``images``.

    Raises:
        ValueError: ``images`` has not four dimensions.
    """
    _check_images(images)
    draws = torch.rand(len(images), generator=generator, device=generator.device)
    mirrored = (draws < 0.5).view(-1, 1, 1, 1)  # (N,) -> (N, 1, 1, 1)
    return torch.where(mirrored, images.flip(-1), images)


def _check_images(images: Tensor) -> None:
    if images.dim() != 4:
        raise ValueError(
            f"`images` must have shape (N, C, H, W); got {tuple(images.shape)}. "
            "Add the missing dimension with unsqueeze."
        )
