"""One LNS number at a time, in exact integers: what `lns_loops` asks where float32 can't decide.

float32 values are handled as int32 bit patterns, which order as the values do for positive ones.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.float32_math import bits_of, float_of
from rung.kernels.cpu.jit import lane
from rung.kernels.cpu.lane_control import Variable, when
from rung.kernels.cpu.lane_operands import choose
from rung.kernels.cpu.rung_lanes import MAGNITUDE
from rung.kernels.log_boundary import LIMB, STEPS

_HIDDEN = 1 << 23
_STEPS, _LIMB = STEPS, LIMB


@lane
def split(bits: Any) -> Any:
    """(m, biased exponent of m * 2^(e - 150)) of positive bits, with 2^23 <= m < 2^24."""
    e: Any = np.int64(bits >> 23)
    m = np.int64(bits & 0x7FFFFF)
    m = choose(e == 0, m, m | _HIDDEN)
    # m is below 2^24, so the exponent of its float32 counts its bits.
    shift = 150 - np.int64(bits_of(np.float32(m)) >> 23)
    return m << shift, max(e, 1) - shift


@lane
def _product(m: Any, step: Any, high: Any, low: Any) -> Any:
    """floor(m * 2^(step / 4096)), in [2^23, 2^25)."""
    return (m * high[step] + ((m * low[step]) >> _LIMB)) >> _LIMB


@lane
def _at_least(bits: Any, scale_m: Any, scale_e: Any, steps: Any, high: Any, low: Any) -> Any:
    """`log_boundary.at_least` for one positive value."""
    m, e = split(bits)
    step = steps & (_STEPS - 1)
    shift = e - scale_e - (steps >> 12)
    bound = _product(scale_m, step, high, low) - choose(step == 0, 1, 0)
    near = (m << min(max(shift, 0), 1)) > bound
    return (shift > 1) | ((shift >= 0) & near)


@lane
def nearest(
    bits: Any, scale_bits: Any, gamma: Any, last: Any, lowest: Any, high: Any, low: Any
) -> Any:
    """Exponent code of one positive value, from a logarithm and one exact comparison."""
    scale_m, scale_e = split(scale_bits)
    m, e = split(bits)
    position = gamma * (np.log2(m / scale_m) + (e - scale_e))
    k = np.int64(np.floor(position))
    steps = (2 * k + 1) * (_STEPS // 2 // gamma)
    k = k + choose(_at_least(bits, scale_m, scale_e, steps, high, low), 1, 0)
    return min(max(k + last, lowest), last)


@lane
def code(
    bits: Any, scale_bits: Any, gamma: Any, last: Any, lowest: Any, high: Any, low: Any,
    powers: Any, draw: Any,
) -> Any:  # fmt: skip
    """Exponent code of any finite value; `draw` is negative for rounding to nearest.

    The scale is positive and finite.
    """
    size = np.int32(bits & MAGNITUDE)
    # A zero, or the smallest code where there is none: either is e = 0.
    result = Variable(np.int64(0))
    with when(size != 0):
        e = nearest(size, scale_bits, gamma, last, lowest, high, low)
        drawn = _drawn(size, scale_bits, e, last, lowest, powers, draw)
        result.now = choose(draw < 0, e, drawn)
    return result.now


@lane
def _drawn(
    size: Any, scale_bits: Any, e: Any, last: Any, lowest: Any, powers: Any, draw: Any
) -> Any:
    """The nearest code or the one on the number's other side."""
    x, scale = float_of(size), float_of(scale_bits)
    near = np.float32(powers[e] * scale)
    other = min(max(e + choose(x < near, -1, 1), lowest), last)
    far = np.float32(powers[other] * scale)
    under, over = min(near, far), max(near, far)
    moves = np.float32(draw * np.float32(over - under)) < np.float32(x - under)
    return choose(moves, max(e, other), min(e, other))
