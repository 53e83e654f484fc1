"""Stochastic rounding of a second moment to bfloat16 and to 8-bit log codes.

With beta = 0.999 a moment decays by 0.1 % a step, less than half the spacing of bfloat16 (0.4 %) or
of the log codes (9 %): rounded to nearest it would never decay. Stochastic rounding keeps its mean.
"""

import torch
from torch import Tensor

from rung.kernels.philox import PURPOSE_MOMENT, random_bytes, uniform

# Log codes of 8 bits: code 0 is exactly 0, code c is scale * 2^((c - 255) / 8): 31.75 octaves.
LOG8_BASE_FACTOR = 8
_LOG8_TOP = 255
_LOG8_RATIO = 2.0 ** (1 / LOG8_BASE_FACTOR)


def round_bfloat16(values: Tensor, key: Tensor, start: int, step: int | Tensor) -> Tensor:
    """Round float32 to one of the two neighbouring bfloat16 values, unbiased.

    Args:
        values: float32, non-negative and finite, shape (n,).
        key: 0-d int64.
        start: Flat index of the first element.
        step: Step count, so that every step draws anew.

    Returns:
        bfloat16 tensor of shape (n,).
    """
    #   sign exponent(8) mantissa(7) | 16 bits that bfloat16 drops
    # Adding 16 random bits carries into the kept part with the odds of the dropped fraction.
    noise = random_bytes(key, 2 * start, 2 * values.numel(), step, PURPOSE_MOMENT)
    bits = values.view(torch.int32) + (noise.view(torch.int16).to(torch.int32) & 0xFFFF)
    return (bits & -65536).view(torch.float32).to(torch.bfloat16)


def decode_log8(codes: Tensor, scale: Tensor) -> Tensor:
    """float32 values of 8-bit log codes; `scale` is 0-d float32, the value of code 255."""
    exponent = (codes.to(torch.float32) - _LOG8_TOP) / LOG8_BASE_FACTOR
    return torch.where(codes > 0, scale * torch.exp2(exponent), 0.0)


def round_log8(
    values: Tensor, scale: Tensor, key: Tensor, start: int, step: int | Tensor
) -> Tensor:
    """Round float32 to one of the two neighbouring 8-bit log codes, unbiased.

    Zero stays zero. Positive values under the smallest code saturate to it: a moment that is too
    large makes a small update, one that is too small would make a large one.

    Args:
        values: float32, non-negative, at most `scale`, shape (n,).
        scale: 0-d float32.
        key: 0-d int64.
        start: Flat index of the first element.
        step: Step count.

    Returns:
        uint8 codes of shape (n,).
    """
    position = LOG8_BASE_FACTOR * torch.log2(values / scale) + _LOG8_TOP
    below = torch.floor(position)
    odds = (torch.exp2((position - below) / LOG8_BASE_FACTOR) - 1) / (_LOG8_RATIO - 1)
    draws = uniform(key, start, values.numel(), step, PURPOSE_MOMENT)
    codes = (below + (draws < odds)).clamp(1, _LOG8_TOP)
    return torch.where(values > 0, codes, 0.0).to(torch.uint8)


def log8_scale(largest: Tensor) -> Tensor:
    """Smallest power of two that is at least `largest` (0-d float32); 1 for 0.

    A power of two keeps the grid of codes where it is when the scale moves, so that a change of
    scale rounds nothing.
    """
    scale = torch.exp2(torch.ceil(torch.log2(largest)))
    return torch.where(largest > 0, scale.clamp(min=2.0**-126), 1.0)
