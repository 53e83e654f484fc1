"""One LNS number at a time, in exact integers: what `lns_loops` asks where float32 can't decide.

float32 values are handled as int32 bit patterns, which order as the values do for positive ones.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.float32_math import float_of
from rung.kernels.cpu.jit import jit
from rung.kernels.cpu.rung_lanes import MAGNITUDE
from rung.kernels.log_boundary import LIMB, STEPS

_HIDDEN = 1 << 23
_STEPS, _LIMB = STEPS, LIMB


@jit
def split(bits: Any) -> Any:
    """(m, biased exponent of m * 2^(e - 150)) of positive bits, with 2^23 <= m < 2^24."""
    m, e = np.int64(bits & 0x7FFFFF), np.int64(bits >> 23)
    if e:
        return m | _HIDDEN, e
    e = np.int64(1)
    while m < _HIDDEN:
        m, e = m << 1, e - 1
    return m, e


@jit
def _product(m: Any, step: Any, high: Any, low: Any) -> Any:
    """floor(m * 2^(step / 4096)), in [2^23, 2^25)."""
    return (m * high[step] + ((m * low[step]) >> _LIMB)) >> _LIMB


@jit
def _at_least(bits: Any, scale_m: Any, scale_e: Any, steps: Any, high: Any, low: Any) -> Any:
    """`log_boundary.at_least` for one positive value."""
    m, e = split(bits)
    step = steps & (_STEPS - 1)
    shift = e - scale_e - (steps >> 12)
    if shift < 0:
        return False
    if shift > 1:
        return True
    return (m << shift) > _product(scale_m, step, high, low) - (step == 0)


@jit
def nearest(
    bits: Any, scale_bits: Any, gamma: Any, last: Any, lowest: Any, high: Any, low: Any
) -> Any:
    """Exponent code of one positive value, from a logarithm and one exact comparison."""
    scale_m, scale_e = split(scale_bits)
    m, e = split(bits)
    position = gamma * (np.log2(m / scale_m) + (e - scale_e))
    k = np.int64(np.floor(position))
    steps = (2 * k + 1) * (_STEPS // 2 // gamma)
    k += _at_least(bits, scale_m, scale_e, steps, high, low)
    return min(max(k + last, lowest), last)


@jit
def code(
    bits: Any, scale_bits: Any, gamma: Any, last: Any, lowest: Any, high: Any, low: Any,
    powers: Any, draw: Any,
) -> Any:  # fmt: skip
    """Exponent code of any finite value; `draw` is negative for rounding to nearest.

    The scale is positive and finite.
    """
    size = np.int32(bits & MAGNITUDE)
    if size == 0:
        # A zero, or the smallest code where there is none: either is e = 0.
        return np.int64(0)
    e = nearest(size, scale_bits, gamma, last, lowest, high, low)
    if draw < 0:
        return e
    x, scale = float_of(size), float_of(scale_bits)
    near = np.float32(powers[e] * scale)
    other = min(max(e - 1 if x < near else e + 1, lowest), last)
    far = np.float32(powers[other] * scale)
    under, over = min(near, far), max(near, far)
    moves = np.float32(draw * np.float32(over - under)) < np.float32(x - under)
    return max(e, other) if moves else min(e, other)
