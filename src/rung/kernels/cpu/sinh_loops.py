"""The loop of `cpu.sinh` that rounds, compiled by numba. Importing this imports numba.

Sixteen numbers at a time, see `rung_lanes`: the logarithm of t + sqrt(t^2 + 1) names the rung to a
quarter, and with it the only boundary in question.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu import simd
from rung.kernels.cpu.arrays import array_at
from rung.kernels.cpu.draw_loops import uniforms
from rung.kernels.cpu.float32_math import float_of
from rung.kernels.cpu.jit import lane
from rung.kernels.cpu.lane_control import Variable, loop, when
from rung.kernels.cpu.lane_operands import choose
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

_f32, _i32, _i64 = np.float32, np.int32, np.int64
# Places in a plan; rungs an octave and 1 / knee are bits of float64.
_BITS, _PER_OCTAVE, _STEEPNESS, _ENDS, _RUNGS, _EXACT = range(6)


@lane
def _nearest(share: Any, plan: Any, top: Any) -> Any:
    """`sinh.nearest_rungs` of a quotient in float64: boundaries up to it, by bisection."""
    ends, k = array_at(plan[_EXACT], np.float64(0), top), Variable(_i64(0))
    for i in loop(0, plan[_BITS] - 1):
        after = k.now + (_i64(1) << (plan[_BITS] - 2 - i))
        k.now = choose(ends[after - 1] <= share, after, k.now)
    return k.now


@lane
def _either_one(size: Any, k: Any, rungs: Any, scale: Any, top: Any, draw: Any) -> Any:
    """`sinh.either_rung` of one number."""
    near = _f32(rungs[k] * scale)
    other = min(max(choose(size < near, k - 1, k + 1), 0), top)
    far = _f32(rungs[other] * scale)
    under, over = min(near, far), max(near, far)
    up = _f32(draw * _f32(over - under)) < _f32(size - under)
    return choose(up, max(k, other), min(k, other))


@lane
def _one(bits: Any, scale_bits: Any, plan: Any, draw: Any, coded: Any) -> Any:
    """Code or value bits of one number; a negative draw is none."""
    top = (_i64(1) << (plan[_BITS] - 1)) - 1
    rungs, rung = array_at(plan[_RUNGS], _f32(0.0), top + 1), Variable(_i64(0))
    scale = float_of(scale_bits)
    with when((scale_bits > 0) & (scale_bits < INFINITE)):
        size = float_of(_i32(bits & MAGNITUDE))
        k = _nearest(np.float64(size) / np.float64(scale), plan, top)
        drawn = _either_one(size, k, rungs, scale, top, draw)
        rung.now = choose(draw < 0, k, drawn)
    if coded is not None:
        return _i32(top + choose(bits < 0, -rung.now, rung.now))
    sign = choose(rung.now > 0, bits & SIGN, _i32(0))
    # Of a scale that is 0, the product is 0.
    value = _i32(value_bits(rungs[rung.now], scale) | sign)
    return choose((scale_bits >= 0) & (scale_bits < INFINITE), value, QUIET_NAN)


@lane
def _constants(plan: Any) -> Any:
    """Boundaries' bits and rungs in memory, rungs an octave, 1 / knee, K."""
    ends = array_at(plan[_ENDS], _i32(0), LANES)
    rungs = array_at(plan[_RUNGS], _f32(0.0), LANES)
    rate = array_at(plan.ctypes.data + 8 * _PER_OCTAVE, np.float64(0), 1)[0]
    steepness = array_at(plan.ctypes.data + 8 * _STEEPNESS, np.float64(0), 1)[0]
    top = _i32((1 << (plan[_BITS] - 1)) - 1)
    return ends, rungs, splat(_f32(rate)), splat(_f32(steepness)), splat(top)


@lane
def _of_scale(scale_bits: Any, _fixed: Any) -> Any:
    """Exponent of a scale, inverse of its significand, the scale."""
    inverse, factor = splat(inverse_significand(scale_bits)), splat(float_of(scale_bits))
    return splat(_i32(scale_bits & EXPONENT)), inverse, factor


@lane
def _rungs(share: Any, fixed: Any) -> Any:
    """Rungs of quotients in bits, and which are undecided."""
    ends, _, per_octave, steepness, top = fixed
    zero, one = splat(_i32(0)), splat(_f32(1.0))
    t = simd.float_of(share) * steepness
    y = simd.bits_of(t + simd.sqrt(simd.fma(t, t, one)))
    octave = simd.to_float((y >> splat(_i32(23))) - splat(_i32(127)))
    position = (octave + log2_of_significand(y & splat(FRACTION))) * per_octave
    k = simd.to_int(select(position > splat(_f32(0.0)), position, splat(_f32(0.0))))
    k = select(k < top, k, top)
    far = share - gather(ends, k)
    near = (far >= splat(_i32(-NEAR))) & (far <= splat(NEAR))
    return select(far < zero, k, k + splat(_i32(1))), near


@lane
def _either(size: Any, uniform: Any, k: Any, fixed: Any, factor: Any) -> Any:
    """One of the two neighbours, from the nearest rung."""
    _, rungs, _, _, top = fixed
    zero, one = splat(_i32(0)), splat(_i32(1))
    value = gather(rungs, k) * factor
    down = size < value
    other = k + select(down, splat(_i32(-1)), one)
    other = select(other < top, other, top)
    other = select(other > zero, other, zero)
    second = gather(rungs, other) * factor
    under, over = select(down, second, value), select(down, value, second)
    # At the ends the two are equal.
    up = uniform * (over - under) < size - under
    smaller, greater = select(other < k, other, k), select(other > k, other, k)
    return select(up, greater, smaller)


@lane
def _sixteen(bits: Any, draws: Any, fixed: Any, group: Any, coded: Any) -> Any:
    """See `rounding_loop`."""
    exponent, inverse, factor = group
    zero, sizes = splat(_i32(0)), bits & splat(MAGNITUDE)
    q = simd.bits_of(simd.float_of(sizes) * inverse)
    q = select(q < exponent, q, exponent)
    share = q + (splat(ONE) - exponent)
    # A zero has no exponent to compare, nor have other subnormal quotients, which are slow.
    k, near = _rungs(select((share > zero) & (sizes > zero), share, zero), fixed)
    slow = (q < splat(_i32(2 << 23))) & (sizes > zero)
    if draws is None:
        slow = slow | near
    else:
        k = _either(simd.float_of(sizes), uniforms(draws), k, fixed, factor)
    if coded is not None:
        return fixed[4] + select(bits < zero, zero - k, k), slow
    value = simd.bits_of(gather(fixed[1], k) * factor)
    return value | select(k > zero, bits & splat(SIGN), zero), slow


round_groups = rounding_loop(_constants, _of_scale, _sixteen, _one)
