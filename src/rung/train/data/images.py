"""Images and labels of one data set, as every image recipe takes them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rung.train.data.files import DataError


@dataclass(frozen=True, slots=True, eq=False)
class ImageData:
    """Labelled images, split into training and test set.

    Attributes:
        train_images: Shape (N, C, H, W), uint8, 0 to 255.
        train_labels: Shape (N,), int64, 0 to ``classes`` - 1.
        test_images: Shape (M, C, H, W), uint8.
        test_labels: Shape (M,), int64.
        classes: Number of classes.
        source: One line: which data, how many images, from where.
        mean: Shape (C,), float32: mean of each channel over the training set, in pixel units.
        std: Shape (C,), float32: standard deviation likewise; 1 for a constant channel.

    Raises:
        DataError: Shapes, types or label values do not fit each other.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    source: str
    mean: Tensor = field(init=False)
    std: Tensor = field(init=False)

    def __post_init__(self) -> None:
        _check_part("training", self.train_images, self.train_labels, self.classes)
        _check_part("test", self.test_images, self.test_labels, self.classes)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                "Training and test images must have one size (C, H, W); got "
                f"{tuple(self.train_images.shape[1:])} and {tuple(self.test_images.shape[1:])}. "
                "Take both from the same data set."
            )
        mean, std = _channel_moments(self.train_images)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)

    def normalized(self, images: Tensor) -> Tensor:
        """Shift and scale images by the training set's channel statistics.

            (images - mean) / std

        Args:
            images: Shape (N, C, H, W), pixel values 0 to 255, uint8 or floating.

        Returns:
            Shape (N, C, H, W), float32, on the device of ``images``.
        """
        mean = self.mean.to(images.device).view(1, -1, 1, 1)
        std = self.std.to(images.device).view(1, -1, 1, 1)
        return (images.to(torch.float32) - mean).div_(std)


def official_name(
    name: str, train_labels: Tensor, test_labels: Tensor, train_each: int, test_each: int
) -> str:
    """Return the data set's name, marked when the numbers of images show that it is another.

    Args:
        name: Name of the data set.
        train_labels: Shape (N,), int64.
        test_labels: Shape (M,), int64.
        train_each: Training images of each class in the official set.
        test_each: Test images of each class.

    Returns:
        ``name``, or ``name`` with the remark that this isn't the official set.
    """
    train_counts, test_counts = torch.bincount(train_labels), torch.bincount(test_labels)
    official = bool((train_counts == train_each).all() and (test_counts == test_each).all())
    return name if official else f"{name} layout (not the official set)"


def _check_part(part: str, images: Tensor, labels: Tensor, classes: int) -> None:
    if images.dim() != 4 or images.dtype != torch.uint8 or images.numel() == 0:
        raise DataError(
            f"The {part} images must be uint8 of shape (N, C, H, W), none of them 0; got "
            f"{images.dtype} of shape {tuple(images.shape)}. Scale pixels to 0..255."
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise DataError(
            f"The {part} set must have one int64 label an image; got {images.shape[0]} images and "
            f"{labels.dtype} labels of shape {tuple(labels.shape)}. "
            "Take images and labels from the same data set."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"The {part} labels must lie in 0..{classes - 1}; got {low}..{high}. "
            "Take the files of the data set that the recipe names."
        )


def _channel_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    # Counting the 256 values is exact and needs no float copy of the whole set.
    values = torch.arange(256, dtype=torch.float64)
    means, stds = [], []
    for channel in range(images.shape[1]):
        pixels = images[:, channel].reshape(-1).cpu()
        share = torch.bincount(pixels, minlength=256).to(torch.float64) / pixels.numel()
        mean = (share * values).sum()
        std = (share * (values - mean) ** 2).sum().sqrt()
        means.append(mean)
        stds.append(std if std > 0 else torch.ones_like(std))
    return torch.stack(means).float(), torch.stack(stds).float()
