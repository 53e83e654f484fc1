"""Quantizers that count their calls, and a plain model of rounding to hold products against."""

import torch

from rung.nn import Quantizer, Quantizers

FOUR = Quantizers(
    Quantizer("lns8", "channel"),
    Quantizer("lns6_b4+zero"),
    Quantizer("lns5_b2+zero", "row"),
    Quantizer("lns4+zero", "channel"),
)


class Scaling:
    """A format whose rounding is a multiplication, so that every call leaves its factor."""

    max_relative_error = 0.0

    def __init__(self, factor):
        self.factor = factor
        self.calls = []

    def quantize(self, x, axis=None, rounding="nearest", generator=None, scale=None, **kwargs):
        self.calls.append((tuple(x.shape), axis))
        return x * self.factor


def spies(scale="channel"):
    formats = [Scaling(factor) for factor in (2.0, 3.0, 5.0, 7.0)]
    return Quantizers(*(Quantizer(fmt, scale) for fmt in formats)), formats


def values(*shape, seed=0, dtype=torch.float32, grad=True):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x.requires_grad_(grad)
