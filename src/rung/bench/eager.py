"""Quantizers as anybody would write them from torch's operations: what ours are measured against.

They equal ours but for ties and the last place of logarithms and powers; tests hold them to that.
Checks for NaN and infinity, which ours make, are left out: that is to their advantage.
"""

import torch
from torch import Tensor


def lns8(x: Tensor) -> Tensor:
    """Eight bits, eight codes an octave, code 0 for zero, one scale: ``lns8+zero``."""
    last, factor = 127, 8
    scale = x.abs().amax()
    exponent = torch.round(factor * torch.log2(x.abs() / scale)) + last
    exponent = exponent.clamp(1, last)
    values = torch.exp2((exponent - last) / factor) * scale
    values = torch.where(x == 0, 0.0, values)
    return torch.copysign(values, x)


def mxfp6_e3m2(x: Tensor) -> Tensor:
    """Blocks of 32 along the last dimension, whose length they divide; the scale rule is floor."""
    largest_exponent, lowest, mantissa, largest = 4, -2, 2, 28.0
    blocks = x.reshape(-1, 32)
    top = blocks.abs().amax(dim=1, keepdim=True)
    shared = torch.floor(torch.log2(top)).clamp(min=-122) - largest_exponent
    scaled = blocks * torch.exp2(-shared)
    octave = torch.floor(torch.log2(scaled.abs())).clamp(min=lowest)
    step = torch.exp2(octave - mantissa)
    rounded = (torch.round(scaled / step) * step).clamp(-largest, largest)
    return (rounded * torch.exp2(shared)).reshape(x.shape)


def float8_round_trip(x: Tensor) -> Tensor:
    """Torch's own cast to E4M3 and back."""
    return x.to(torch.float8_e4m3fn).to(torch.float32)
