"""A momentum of normalised gradients, and its storage in float32, bfloat16, 8 or 4 bits.

    m <- momentum m + (1 - momentum) u,   u = clamp(g / sqrt(v / (1 - beta^t)), -clip, +clip)

The gradient is normalised before it is averaged (Ziyin, Wang, Ueda 2020, "LaProp",
arXiv:2002.04839), so momenta are of the order of 1 whatever the gradients' size, and few bits need
no scale: 8 are those of torch.float8_e4m3fn, kept as uint8; 4 are those of E2M1 (OCP MX 1.0) over
four, 0 to 1.5, two in an int8. Stored numbers are rounded stochastically, for a momentum near its
mean moves by less than their spacing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rung.kernels import inverse_root
from rung.kernels.moment import random_halves
from rung.kernels.philox import PURPOSE_MOMENTUM

BLOCK = 32
"""Elements whose 4-bit codes lie together in 16 bytes: byte j holds those of element j, in its low
half, and of element 16 + j. A tensor's last block is whole."""


@dataclass(frozen=True)
class Code:
    """A sign bit over an exponent and a fraction.

    Attributes:
        sign: The sign bit.
        largest: The largest code without it.
        fraction: Bits of a float32 that a code drops.
        smallest: The codes below this number are evenly spaced.
        even: How many those are, with zero.
        lowest: The upper bits of `smallest` in float32.
    """

    sign: int
    largest: int
    fraction: int
    smallest: float
    even: int
    lowest: int


EIGHT = Code(sign=0x80, largest=0x7E, fraction=20, smallest=2.0**-6, even=8, lowest=121 << 3)
"""Up to 448, far beyond any clip in use."""
FOUR = Code(sign=0x8, largest=0x7, fraction=22, smallest=2.0**-2, even=2, lowest=125 << 1)
"""0, 1/8, 1/4, 3/8, 1/2, 3/4, 1 and 3/2."""


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


def packed(elements: int) -> int:
    """Bytes of a tensor's momenta in 4 bits."""
    return -(-elements // BLOCK) * (BLOCK // 2)


def part(stored: Tensor, start: int, stop: int) -> Tensor:
    """The momenta of elements start ... stop - 1, flat; `start` is a multiple of `BLOCK`."""
    if stored.dtype == torch.int8:
        return stored.view(-1)[start // 2 : start // 2 + packed(stop - start)]
    return stored.view(-1)[start:stop]


def read(stored: Tensor, elements: int) -> Tensor:
    """float32 values of a stored momentum, shape (elements,).

    Args:
        stored: float32, bfloat16, uint8 (`EIGHT`) or int8 (two of `FOUR`), flat.
        elements: How many.
    """
    if stored.dtype == torch.uint8:
        return _decoded(stored.to(torch.int32), EIGHT)
    if stored.dtype == torch.int8:
        both = stored.view(torch.uint8).to(torch.int32).view(-1, 1, BLOCK // 2)
        codes = torch.cat((both & 0xF, both >> 4), dim=1)
        return _decoded(codes.view(-1)[:elements], FOUR)
    return stored.to(torch.float32)


def _decoded(stored: Tensor, code: Code) -> Tensor:
    size = stored & (code.sign - 1)
    value = ((size + (code.lowest - code.even)) << code.fraction).view(torch.float32)
    even = ((size + code.lowest) << code.fraction).view(torch.float32) - code.smallest
    value = torch.where(size < code.even, even, value)
    return torch.where(stored >= code.sign, -value, value)


def write(target: Tensor, values: Tensor, key: Tensor, start: int, step: int | Tensor) -> None:
    """Round float32 to the target's storage, unbiased, and assign.

    Args:
        target: float32, bfloat16, uint8 or int8, as of `part`.
        values: m, float32, finite, shape (n,); beyond the largest of 8 and 4 bits they saturate.
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
    elif target.dtype == torch.uint8:
        target.copy_(_encoded(values, draws, EIGHT))
    else:
        codes = values.new_zeros(2 * target.numel(), dtype=torch.int32)
        codes[: values.numel()] = _encoded(values, draws, FOUR)
        low, high = codes.view(-1, 2, BLOCK // 2).unbind(1)
        target.view(torch.uint8).copy_((low | (high << 4)).view(-1))


def _encoded(values: Tensor, draws: Tensor, code: Code) -> Tensor:
    size = values.abs()
    low = size < code.smallest
    # Added to `smallest`, numbers below it are as evenly spaced as their codes. Of the bits that a
    # code drops the sixteen highest draw.
    shifted = torch.where(low, size + code.smallest, size).view(torch.int32)
    bits = shifted + (draws << (code.fraction - 16))
    rounded = (bits >> code.fraction) - torch.where(low, code.lowest, code.lowest - code.even)
    return rounded.clamp(max=code.largest) | torch.where(values < 0, code.sign, 0)
