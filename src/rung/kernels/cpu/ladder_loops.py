"""The loops of `cpu.ladder`, compiled by numba. Importing this imports numba.

Sixteen numbers at a time, see `rung_lanes`: a polynomial names the rung to a quarter, and with it
the only boundary in question.
"""

from typing import Any

import numba
import numpy as np

from rung.kernels.cpu import simd
from rung.kernels.cpu.draw_loops import uniforms
from rung.kernels.cpu.float32_math import float_of
from rung.kernels.cpu.jit import jit, lane
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
from rung.kernels.cpu.simd import LANES, load, pointer, select, splat

_f32, _i32 = np.float32, np.int32
# Places in a plan; rungs an octave and eta0 are bits of float64.
_BITS, _PER_OCTAVE, _PRECISION, _ENDS, _RUNGS, _EXACT = range(6)


@jit
def _code(bits: Any, scale_bits: Any, plan: Any, draw: Any) -> Any:
    """Code of one finite number over a positive scale, by the definition; see `kernels.ladder`."""
    last = (1 << plan[_BITS]) - 1
    exact = numba.carray(pointer(plan[_EXACT], np.float64(0)), last + 1)
    precision = numba.carray(pointer(plan.ctypes.data + 8 * _PRECISION, np.float64(0)), 1)[0]
    x, scale = float_of(_i32(bits & MAGNITUDE)), float_of(scale_bits)
    size, top = np.float64(x), np.float64(scale)
    if size == 0:
        return np.int64(last)
    k = np.int64(min(max(-np.log(size / top) / precision, 0.0), np.float64(last)))
    k += size < exact[k] * top
    if draw < 0:
        return k
    rungs = numba.carray(pointer(plan[_RUNGS], _f32(0.0)), last + 1)
    near = _f32(rungs[k] * scale)
    other = min(max(k + 1 if x < near else k - 1, 0), last)
    far = _f32(rungs[other] * scale)
    under, over = min(near, far), max(near, far)
    up = _f32(draw * _f32(over - under)) < _f32(x - under)
    return min(k, other) if up else max(k, other)


@jit
def _one(bits: Any, scale_bits: Any, plan: Any, draw: Any, coded: Any) -> Any:
    """Code or value bits of one number; a negative draw is none."""
    if not 0 < scale_bits < INFINITE:
        return _i32(0) if coded is not None else QUIET_NAN
    k = _code(bits, scale_bits, plan, draw)
    if coded is not None:
        return _i32(k)
    rungs = numba.carray(pointer(plan[_RUNGS], _f32(0.0)), k + 1)
    sign = bits & SIGN if bits & MAGNITUDE else 0
    return _i32(value_bits(rungs[k], float_of(scale_bits)) | sign)


@lane
def _constants(plan: Any) -> Any:
    """Boundaries' bits and rungs in memory, rungs an octave, the last code."""
    ends = numba.carray(pointer(plan[_ENDS], _i32(0)), LANES)
    rungs = numba.carray(pointer(plan[_RUNGS], _f32(0.0)), LANES)
    rate = numba.carray(pointer(plan.ctypes.data + 8 * _PER_OCTAVE, np.float64(0)), 1)[0]
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
    x = numba.carray(pointer(x_at, _f32(0.0)), size)
    packed = numba.carray(pointer(packed_at, np.uint8(0)), (size + 7) // 8)
    i = begin
    while i + LANES <= end:
        word = np.int64(simd.bits_of_mask(load(x, i) < splat(_f32(0.0))))
        packed[i // 8], packed[i // 8 + 1] = word & 0xFF, word >> 8
        i += LANES
    while i < end:
        byte = 0
        for bit in range(min(8, end - i)):
            byte |= int(x[i + bit] < 0) << bit
        packed[i // 8] = byte
        i += 8
