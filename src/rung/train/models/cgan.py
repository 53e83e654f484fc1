"""A class-conditional GAN on images of 32 x 32: generator, projection discriminator, hinge losses.

The sizes are those of Miyato et al.'s networks for CIFAR-10 at width 128.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from rung.train.models.spectral import (
    SpectralConv2d,
    SpectralEmbedding,
    SpectralLinear,
    iterate_spectral_norms_,
)

SIDE = 32
"""Height and width of the images."""

CHANNELS = 3
"""Channels of the images."""

_FIRST_SIDE = 4
# Glorot's gain for what a ReLU comes before.
_GAIN = math.sqrt(2)


class ConditionalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose gain and offset depend on the class of the image.

    Being a normalisation, its two tables are left to the additive rule: offsets begin at 0.

    Args:
        channels: Channels C of the images.
        classes: Number of classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, affine=False)
        self.gain = nn.Parameter(torch.ones(classes, channels))
        self.offset = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise images (N, C, H, W) of classes (N,)."""
        gain, offset = self.gain[labels], self.offset[labels]  # (N, C)
        normal: Tensor = super().forward(input)
        shifted: Tensor = normal * gain[:, :, None, None] + offset[:, :, None, None]
        return shifted


class GeneratorBlock(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut, at twice the side.

    Args:
        channels: Channels of input and output.
        classes: Number of classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm2d(channels, classes)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = ConditionalBatchNorm2d(channels, classes)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, channels, 1)
        for conv, gain in ((self.conv1, _GAIN), (self.conv2, _GAIN), (self.shortcut, 1.0)):
            _initialize(conv, gain)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, 2H, 2W)."""
        hidden = self.conv1(_doubled(self.norm1(images, labels).relu()))
        hidden = self.conv2(self.norm2(hidden, labels).relu())
        total: Tensor = hidden + self.shortcut(_doubled(images))
        return total


class Generator(nn.Module):
    """Noise and classes to images: linear, three blocks that double the side, convolution, tanh.

    Args:
        classes: Number of classes.
        noise: Length of the noise.
        width: Channels C of all blocks.
    """

    def __init__(self, classes: int, noise: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(noise, width * _FIRST_SIDE**2)
        self.blocks = nn.ModuleList(GeneratorBlock(width, classes) for _ in range(3))
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, CHANNELS, 3, padding=1)
        _initialize(self.first, 1.0)
        _initialize(self.last, 1.0)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Map (N, noise) and classes (N,) to images (N, 3, 32, 32) in -1..1."""
        images = self.first(noise).view(len(noise), -1, _FIRST_SIDE, _FIRST_SIDE)
        for block in self.blocks:
            images = block(images, labels)
        painted: Tensor = self.last(self.norm(images).relu())
        return painted.tanh()


class DiscriminatorBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    Args:
        in_channels: Channels of the input; those of images mark the first block, which has no ReLU
            at its begin.
        out_channels: Channels of the output.
        halves: Whether the side is halved.
    """

    def __init__(self, in_channels: int, out_channels: int, halves: bool) -> None:
        super().__init__()
        self.is_first, self.halves = in_channels == CHANNELS, halves
        self.conv1 = SpectralConv2d(in_channels, out_channels, 3, _GAIN)
        self.conv2 = SpectralConv2d(out_channels, out_channels, 3, _GAIN)
        self.shortcut: nn.Module = nn.Identity()
        if halves or in_channels != out_channels:
            self.shortcut = SpectralConv2d(in_channels, out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W), or half of the sides."""
        hidden = images if self.is_first else images.relu()
        hidden = self.conv2(self.conv1(hidden).relu())
        total: Tensor = hidden + self.shortcut(images)
        return F.avg_pool2d(total, 2) if self.halves else total


class Discriminator(nn.Module):
    """Images and classes to one number each, high for real images: w . h + b + e(class) . h.

    Args:
        classes: Number of classes.
        width: Channels of all blocks.

    Source: T. Miyato, M. Koyama, "cGANs with Projection Discriminator", arXiv:1802.05637, 2018.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            DiscriminatorBlock(CHANNELS, width, halves=True),
            DiscriminatorBlock(width, width, halves=True),
            DiscriminatorBlock(width, width, halves=False),
            DiscriminatorBlock(width, width, halves=False),
        )
        self.head = SpectralLinear(width, 1)
        self.table = SpectralEmbedding(classes, width)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Map (N, 3, 32, 32) and classes (N,) to (N,)."""
        hidden = self.blocks(images).relu().sum(dim=(2, 3))  # (N, width)
        projected: Tensor = (self.table(labels) * hidden).sum(1)
        alone: Tensor = self.head(hidden).squeeze(1)
        return alone + projected


class ConditionalGAN(nn.Module):
    """Generator and discriminator as one model, whose outputs are their two losses.

        L_D = mean max(0, 1 - D(x)) + mean max(0, 1 + D(G(z)))    moves the discriminator only
        L_G = - mean D(G(z))                                      moves the generator only

    Both are computed at the same weights, so one step of one optimizer moves both at once; most
    publications move them in turns, the discriminator up to five times as often.

    Args:
        classes: Number of classes.
        noise: Length of the noise.
        width: Channels of the discriminator; the generator has twice as many.
    """

    def __init__(self, classes: int, noise: int = 128, width: int = 128) -> None:
        super().__init__()
        self.noise = noise
        self.generator = Generator(classes, noise, 2 * width)
        self.discriminator = Discriminator(classes, width)

    def forward(self, batch: Tensor) -> Tensor:
        """The two losses (L_D, L_G), shape (2,), of a batch made by `pack`."""
        images, labels, noise, wanted = self._unpack(batch)
        if self.training:
            iterate_spectral_norms_(self.discriminator.modules())
        painted = self.generator(noise, wanted)
        scores = self.discriminator(
            torch.cat((images, painted.detach())), torch.cat((labels, wanted))
        )
        real, fake = scores.chunk(2)
        frozen = {name: part.detach() for name, part in self.discriminator.named_parameters()}
        judged = functional_call(self.discriminator, frozen, (painted, wanted))
        for_discriminator = (1 - real).relu().mean() + (1 + fake).relu().mean()
        return torch.stack((for_discriminator, -judged.mean()))

    def _unpack(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pixels = CHANNELS * SIDE * SIDE
        images, noise, labels = torch.split(batch, [pixels, self.noise, 2], dim=1)
        real, wanted = labels.long().unbind(1)
        return images.reshape(-1, CHANNELS, SIDE, SIDE), real, noise, wanted


def pack(images: Tensor, labels: Tensor, noise: Tensor, wanted: Tensor) -> Tensor:
    """One tensor of all that a step of `ConditionalGAN` takes, as the training loop hands it on.

    Args:
        images: Real images, shape (N, 3, 32, 32), float32 in -1..1.
        labels: Their classes, shape (N,).
        noise: Standard normal, shape (N, Z).
        wanted: Classes of the images to be generated, shape (N,).

    Returns:
        Shape (N, 3072 + Z + 2), float32, which holds the classes exactly.
    """
    both = torch.stack((labels, wanted), dim=1).to(torch.float32)
    return torch.cat((images.flatten(1), noise, both), dim=1)


def _doubled(images: Tensor) -> Tensor:
    """Every pixel four times: (N, C, H, W) to (N, C, 2H, 2W)."""
    count, channels, height, width = images.shape
    # Not interpolate(), whose backward pass on a GPU is not the same in two runs.
    copies = images[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return copies.reshape(count, channels, 2 * height, 2 * width)


def _initialize(layer: nn.Conv2d | nn.Linear, gain: float) -> None:
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
