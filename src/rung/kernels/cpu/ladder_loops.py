"""The loops of `cpu.ladder`, compiled by numba. Importing this imports numba.

Sixteen numbers at a time, see `rung_lanes`: a polynomial names the rung to a quarter, and with it
the only boundary in question.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu import simd
from rung.kernels.cpu.arrays import array_at
from rung.kernels.cpu.draw_loops import uniforms
from rung.kernels.cpu.float32_math import float_of
from rung.kernels.cpu.jit import jit, lane
from rung.kernels.cpu.lane_control import Variable, loop, when
from rung.kernels.cpu.lane_operands import choose
from rung.kernels.cpu.memory_lanes import load
from rung.kernels.cpu.round_loops import rounding_loop
from rung.kernels.cpu.rung_lanes import (
    EXPONENT,
    FRACTION,
    INFINITE,
    MAGNITUDE,
    NEAR,
    ONE,
    QUIET_NAN,
    SIGN,
    gather,
    inverse_significand,
    log2_of_significand,
    value_bits,
)
from rung.kernels.cpu.simd import LANES, select, splat

_f32, _i32 = np.float32, np.int32
# Places in a plan; rungs an octave and eta0 are bits of float64.
_BITS, _PER_OCTAVE, _PRECISION, _ENDS, _RUNGS, _EXACT = range(6)


@lane
def _code(bits: Any, scale_bits: Any, plan: Any, draw: Any) -> Any:
    """Code of one finite number over a positive scale, by the definition; see `kernels.ladder`."""
    last = (1 << plan[_BITS]) - 1
    exact = array_at(plan[_EXACT], np.float64(0), last + 1)
    precision = array_at(plan.ctypes.data + 8 * _PRECISION, np.float64(0), 1)[0]
    x, scale = float_of(_i32(bits & MAGNITUDE)), float_of(scale_bits)
    size, top = np.float64(x), np.float64(scale)
    # A zero's quotient is infinite.
    k = np.int64(min(max(-np.log(size / top) / precision, 0.0), np.float64(last)))
    k = k + choose(size < exact[k] * top, 1, 0)
    rungs = array_at(plan[_RUNGS], _f32(0.0), last + 1)
    k = min(k, last)
    near = _f32(rungs[k] * scale)
    other = min(max(choose(x < near, k + 1, k - 1), 0), last)
    far = _f32(rungs[other] * scale)
    under, over = min(near, far), max(near, far)
    up = _f32(draw * _f32(over - under)) < _f32(x - under)
    drawn = choose(up, min(k, other), max(k, other))
    return choose(size == 0, last, choose(draw < 0, k, drawn))


@lane
def _one(bits: Any, scale_bits: Any, plan: Any, draw: Any, coded: Any) -> Any:
    """Code or value bits of one number; a negative draw is none."""
    result = Variable(_i32(0) if coded is not None else QUIET_NAN)
    with when((scale_bits > 0) & (scale_bits < INFINITE)):
        k = _code(bits, scale_bits, plan, draw)
        if coded is not None:
            result.now = _i32(k)
        else:
            rungs = array_at(plan[_RUNGS], _f32(0.0), k + 1)
            sign = choose((bits & MAGNITUDE) != 0, bits & SIGN, _i32(0))
            result.now = _i32(value_bits(rungs[k], float_of(scale_bits)) | sign)
    return result.now


@lane
def _constants(plan: Any) -> Any:
    """Boundaries' bits and rungs in memory, rungs an octave, the last code."""
    ends = array_at(plan[_ENDS], _i32(0), LANES)
    rungs = array_at(plan[_RUNGS], _f32(0.0), LANES)
    rate = array_at(plan.ctypes.data + 8 * _PER_OCTAVE, np.float64(0), 1)[0]
    return ends, rungs, splat(_f32(rate)), splat(_i32((1 << plan[_BITS]) - 1))


@lane
def _of_scale(scale_bits: Any, _fixed: Any) -> Any:
    """Exponent of a scale, inverse of its significand, the scale."""
    inverse, factor = splat(inverse_significand(scale_bits)), splat(float_of(scale_bits))
    return splat(_i32(scale_bits & EXPONENT)), inverse, factor


@lane
def _nearest(q: Any, exponent: Any, fixed: Any) -> Any:
    """Codes of quotients, and which are undecided."""
    ends, _, per_octave, last = fixed
    zero, at_exponent = splat(_i32(0)), splat(_i32(23))
    below = simd.to_float((exponent >> at_exponent) - (q >> at_exponent))
    position = (below - log2_of_significand(q & splat(FRACTION))) * per_octave
    bottom = simd.to_float(last)
    position = select(position < bottom, position, bottom)
    k = simd.to_int(select(position > splat(_f32(0.0)), position, splat(_f32(0.0))))
    far = q + (splat(ONE) - exponent) - gather(ends, k)
    near = (far >= splat(_i32(-NEAR))) & (far <= splat(NEAR))
    return select(far < zero, k + splat(_i32(1)), k), near


@lane
def _either(size: Any, uniform: Any, k: Any, fixed: Any, factor: Any) -> Any:
    """One of the two neighbours, from the nearest code."""
    _, rungs, _, last = fixed
    zero, one = splat(_i32(0)), splat(_i32(1))
    value = gather(rungs, k) * factor
    down = size < value
    other = k + select(down, one, splat(_i32(-1)))
    other = select(other < last, other, last)
    other = select(other > zero, other, zero)
    second = gather(rungs, other) * factor
    under, over = select(down, second, value), select(down, value, second)
    # At the ends the two are equal.
    up = uniform * (over - under) < size - under
    smaller, greater = select(other < k, other, k), select(other > k, other, k)
    return select(up, smaller, greater)


@lane
def _sixteen(bits: Any, draws: Any, fixed: Any, group: Any, coded: Any) -> Any:
    """See `rounding_loop`."""
    exponent, inverse, factor = group
    zero, sizes = splat(_i32(0)), bits & splat(MAGNITUDE)
    q = simd.bits_of(simd.float_of(sizes) * inverse)
    q = select(q < exponent, q, exponent)
    k, near = _nearest(q, exponent, fixed)
    slow = (q < splat(_i32(2 << 23))) & (sizes > zero)
    k = select(sizes > zero, k, fixed[3])
    if draws is None:
        slow = slow | near
    else:
        k = _either(simd.float_of(sizes), uniforms(draws), k, fixed, factor)
    if coded is not None:
        return k, slow
    value = simd.bits_of(gather(fixed[1], k) * factor)
    return value | select(sizes > zero, bits & splat(SIGN), zero), slow


round_groups = rounding_loop(_constants, _of_scale, _sixteen, _one)


@jit
def pack_negative(x_at: Any, packed_at: Any, size: Any, begin: Any, end: Any) -> None:
    """Bits of x < 0, eight a byte, for elements from `begin`, a multiple of sixteen."""
    _pack_negative(x_at, packed_at, size, begin, end)


@lane
def _pack_negative(x_at: Any, packed_at: Any, size: Any, begin: Any, end: Any) -> None:
    x, packed = array_at(x_at, _f32(0.0), size), array_at(packed_at, np.uint8(0), (size + 7) // 8)
    whole = begin + ((end - begin) & np.int64(-LANES))
    for i in loop(begin, whole, LANES):
        word = np.int64(simd.bits_of_mask(load(x, i) < splat(_f32(0.0))))
        packed[i // 8], packed[i // 8 + 1] = word & 0xFF, word >> 8
    for i in loop(whole, end, 8):
        byte = Variable(np.int64(0))
        for bit in loop(0, min(8, end - i)):
            byte.now = byte.now | (choose(x[i + bit] < 0, 1, 0) << bit)
        packed[i // 8] = byte.now
