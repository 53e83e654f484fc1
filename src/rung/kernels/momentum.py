"""A momentum of normalised gradients, and its storage in float32, bfloat16 or 8 bits.

    m <- momentum m + (1 - momentum) u,   u = clamp(g / sqrt(v / (1 - beta^t)), -clip, +clip)

The gradient is normalised before it is averaged (Ziyin, Wang, Ueda 2020, "LaProp",
arXiv:2002.04839), so momenta are of the order of 1 whatever the gradients' size, and their 8 bits
need no scale: they are those of torch.float8_e4m3fn, kept as uint8. Stored numbers are rounded
stochastically, for a momentum near its mean moves by less than their spacing.
"""

import torch
from torch import Tensor

from rung.kernels import inverse_root
from rung.kernels.moment import random_halves
from rung.kernels.philox import PURPOSE_MOMENTUM

SIGN, LARGEST = 0x80, 0x7E  # of the codes: 448, far beyond any clip in use
FRACTION = 20  # bits of a float32 that a code drops
SMALLEST = 2.0**-6
"""The codes below this number, eight with zero, are evenly spaced."""
LOWEST = 121 << 3
"""The upper twelve bits of `SMALLEST` in float32."""


def normals(steps: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """What makes u of a gradient: float32, shapes (n,) and ().

    Args:
        steps: t of each tensor, shape (n,).
        numbers: beta, clip, and others; float64.

    Returns:
        (normal, clip): u per `inverse_root.unscaled` gradient, and its largest magnitude.
    """
    correction = (1 - numbers[0] ** steps.to(torch.float64)).sqrt()
    return (inverse_root.FACTOR * correction).to(torch.float32), numbers[1].to(torch.float32)


def next_momentum(
    ratio: Tensor, old: Tensor, normal: Tensor, clip: Tensor, numbers: Tensor
) -> Tensor:
    """M <- momentum m + (1 - momentum) u in float32's own steps, unrounded.

    Args:
        ratio: Gradient times `inverse_root.unscaled` of its moment.
        old: m, float32.
        normal: As of `normals`, like the next.
        clip: Largest u.
        numbers: beta, clip, weight decay, momentum; float64.
    """
    x = ratio * normal
    # NaN, of a gradient that nobody has looked at, counts as much as anything may.
    x = torch.where(x < clip, x, clip)
    u = torch.where(x > -clip, x, -clip)
    rest = (1 - numbers[3]).to(torch.float32)
    return old * numbers[3].to(torch.float32) + u * rest


def read(stored: Tensor) -> Tensor:
    """float32 values of a stored momentum."""
    if stored.dtype != torch.uint8:
        return stored.to(torch.float32)
    code = stored.to(torch.int32) & (SIGN - 1)
    value = ((code + (LOWEST - 8)) << FRACTION).view(torch.float32)
    even = ((code + LOWEST) << FRACTION).view(torch.float32) - SMALLEST
    value = torch.where(code < 8, even, value)
    return torch.where(stored >= SIGN, -value, value)


def write(target: Tensor, values: Tensor, key: Tensor, start: int, step: int | Tensor) -> None:
    """Round float32 to the target's storage, unbiased, and assign.

    Args:
        target: float32, bfloat16 or uint8, shape (n,).
        values: m, float32, finite; beyond 448 the 8 bits saturate.
        key: 0-d int64.
        start: Flat index of the first element.
        step: Step count, so that every step draws anew.
    """
    if target.dtype == torch.float32:
        target.copy_(values)
        return
    draws = random_halves(key, start, values.numel(), step, PURPOSE_MOMENTUM)[0]
    if target.dtype == torch.bfloat16:
        bits = values.view(torch.int32) + draws
        target.copy_((bits & -65536).view(torch.float32).to(torch.bfloat16))
        return
    size = values.abs()
    low = size < SMALLEST
    # Added to `SMALLEST`, numbers below it are as evenly spaced as their codes. Of the bits that a
    # code drops the sixteen highest draw.
    bits = torch.where(low, size + SMALLEST, size).view(torch.int32) + (draws << (FRACTION - 16))
    code = (bits >> FRACTION) - torch.where(low, LOWEST, LOWEST - 8)
    target.copy_(code.clamp(max=LARGEST) | torch.where(values < 0, SIGN, 0))
