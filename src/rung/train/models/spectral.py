"""Layers whose weight is divided by its largest singular value, for the discriminators of GANs.

    u <- W v / |W v|  with  v = W' u / |W' u|    one step of power iteration, u stays between steps
    sigma = |W' u|                               W as a matrix (outputs, everything else)
    y = f(x, W) / sigma + b

The result is divided instead of the weight, which is the same map: a weight in codes, or one that
is rounded to a format, is multiplied as it is. torch's own parametrization would hand the layer a
float weight and ask the optimizer to train a third tensor's name.

sigma is a measurement in float32, no product of the layer: it is computed by multiplication element
by element, which no format intercepts.

Source: T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida, "Spectral Normalization for Generative
Adversarial Networks", arXiv:1802.05957, 2018.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FIRST_STEPS = 10


class Spectral(nn.Module):
    """What the three layers share: the vector u, its iteration, and sigma.

    Attributes:
        weight: The layer's weight, any number of dimensions, outputs first.
        left: The vector u, shape (outputs, 1, ...), of norm 1.
    """

    weight: Tensor
    left: Tensor

    def begin(self) -> None:
        """Draw u from torch's global generator and let it settle on the fresh weight."""
        shape = (len(self.weight), *(1 for _ in self.weight.shape[1:]))
        self.register_buffer("left", F.normalize(torch.randn(shape), dim=0))
        for _ in range(_FIRST_STEPS):
            self.iterate_()

    @torch.no_grad()
    def iterate_(self) -> None:
        """One step of power iteration on u, in place."""
        right = (self.weight * self.left).sum(0)
        right = right / right.norm().clamp_min(torch.finfo(right.dtype).tiny)
        product = (self.weight * right).flatten(1).sum(1)
        self.left.copy_(F.normalize(product, dim=0).view_as(self.left))

    def sigma(self) -> Tensor:
        """The estimate of the largest singular value: differentiable in the weight, not in u."""
        # Its gradient is u v', as if v were fixed, for v is where u' W v is largest.
        largest: Tensor = (self.weight * self.left).sum(0).norm()
        return largest


class SpectralConv2d(Spectral, nn.Conv2d):
    """A convolution of stride 1 and zero padding, divided by its sigma.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, odd; the image keeps its size.
        gain: Of the Glorot initialisation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, gain: float = 1.0
    ) -> None:
        nn.Conv2d.__init__(self, in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        _initialize(self, gain)
        self.begin()

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H, W)."""
        assert self.bias is not None
        product = F.conv2d(input, self.weight, None, self.stride, self.padding)
        return product / self.sigma() + self.bias.view(-1, 1, 1)


class SpectralLinear(Spectral, nn.Linear):
    """A linear layer, divided by its sigma.

    Args:
        in_features: Length of the inputs.
        out_features: Length of the outputs.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        nn.Linear.__init__(self, in_features, out_features)
        _initialize(self, 1.0)
        self.begin()

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features)."""
        return F.linear(input, self.weight) / self.sigma() + self.bias


class SpectralEmbedding(Spectral, nn.Embedding):
    """A table of vectors, divided by its sigma.

    Args:
        count: Number of rows.
        features: Length of a row.
    """

    def __init__(self, count: int, features: int) -> None:
        nn.Embedding.__init__(self, count, features)
        nn.init.xavier_uniform_(self.weight)
        self.begin()

    def forward(self, input: Tensor) -> Tensor:
        """Rows (N, features) of indices (N,)."""
        return F.embedding(input, self.weight) / self.sigma()


def iterate_spectral_norms_(modules: Iterable[nn.Module]) -> None:
    """One step of power iteration in every spectral layer among `modules`."""
    for module in modules:
        if isinstance(module, Spectral):
            module.iterate_()


def _initialize(layer: nn.Conv2d | nn.Linear, gain: float) -> None:
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
