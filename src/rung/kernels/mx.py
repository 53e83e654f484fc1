"""Shared power-of-two scales of blocks (E8M0): the four rules, and codes to factors.

A rule says when the exponent of a block's largest magnitude goes up by one. Every rule is a
threshold on its fraction f, where amax = f * 2^e and 1/2 <= f < 1:

    floor   never
    ceil    f > 1/2                       amax is no power of two
    even    f >= 1 - 2^-(m + 2)           amax rounded to m mantissa bits leaves its octave
    rceil   f > the fraction of the element's largest number

so all of them are exact. This file is the reference; on the CPU `cpu.mx` is fast.

Source: OCP Microscaling Formats (MX) Specification v1.0, section 6.3 (floor).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rung.kernels.minifloat import Grid

RULES = ("floor", "ceil", "even", "rceil")
BIAS, NAN_SCALE = 127, 255


@dataclass(frozen=True)
class Rule:
    """When the exponent goes up, and what is taken off it.

    Attributes:
        emax: Exponent of the element's largest number.
        fraction: Fractions over this one go up; in [1/2, 1].
        inclusive: Whether this one goes up too.
    """

    emax: int
    fraction: float
    inclusive: bool


def rule_of(name: str, grid: Grid) -> Rule:
    """The rule of a name for the elements of a grid."""
    fraction, exponent = math.frexp(grid.largest)
    # The fraction bits behind the leading one, of the largest number's octave.
    mantissa = grid.mantissa_bits if not grid.fixed else exponent - 1 - grid.step
    thresholds = {
        "floor": (1.0, False),
        "ceil": (0.5, False),
        "even": (1 - 2.0 ** -(mantissa + 2), True),
        "rceil": (fraction, False),
    }
    return Rule(exponent - 1, *thresholds[name])


def scale_codes_reference(largest: Tensor, rule: Rule) -> Tensor:
    """E8M0 codes of blocks' scales.

    Args:
        largest: Largest magnitude of each block, float32 or float64, any shape.
        rule: From `rule_of`.

    Returns:
        int32 tensor: 127 + s for the scale 2^s, s clamped to -127 ... 127; 0 for a block of zeros;
        255 where the largest magnitude is NaN or infinite.
    """
    finite = torch.isfinite(largest)
    fraction, exponent = torch.frexp(torch.where(finite, largest, 1.0))
    above = fraction >= rule.fraction if rule.inclusive else fraction > rule.fraction
    s = exponent.to(torch.int32) - 1 - rule.emax + above.to(torch.int32)
    codes = s.clamp(-BIAS, BIAS) + BIAS
    codes = torch.where(largest == 0, 0, codes)
    return torch.where(finite, codes, NAN_SCALE)


def scale_values(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """2^(code - 127), NaN for code 255; float32 or float64, exact.

    Args:
        codes: int32 in [0, 255], any shape.
        dtype: torch.float32 or torch.float64.
    """
    # 2^-127 is a subnormal float32: the upper bit of the fraction.
    bits = torch.where(codes == 0, 1 << 22, codes << 23)
    bits = torch.where(codes == NAN_SCALE, 0x7FC00000, bits)
    return bits.to(torch.int32).view(torch.float32).to(dtype)
