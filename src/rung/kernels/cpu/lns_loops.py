"""The loops of `cpu.lns`, compiled by numba. Importing this imports numba.

Sixteen numbers at a time, see `rung_lanes`; float32 values are handled as int32 bit patterns. With
up to eight rungs an octave, the first four bits of a quotient's significand name a bin that holds
at most one boundary, and all tables stay in registers; with more, a logarithm good to a quarter of
a rung names the only boundary in question.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu import lns_exact, simd
from rung.kernels.cpu.arrays import array_at
from rung.kernels.cpu.draw_loops import uniforms
from rung.kernels.cpu.float32_math import float_of
from rung.kernels.cpu.jit import lane
from rung.kernels.cpu.lane_control import Variable, when
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
    SIGN,
    gather,
    inverse_significand,
    log2_of_significand,
    value_bits,
)
from rung.kernels.cpu.simd import LANES, look_up, select, splat
from rung.kernels.log_boundary import STEPS

_f32, _i32 = np.float32, np.int32
# Places in a plan.
_BITS, _SHIFT, _LAST, _LOWEST, _FIRST, _FLUSH = range(6)
_COUNT, _BOUND, _BOUNDS, _MANTISSAS, _POWERS, _HIGH, _LOW = range(6, 13)
_AT_EXPONENT, _AT_BIN = _i32(23), _i32(19)


@lane
def _one(bits: Any, scale_bits: Any, plan: Any, draw: Any, coded: Any) -> Any:
    """Code (with its sign) or value bits of one finite number; a negative draw is none."""
    powers = array_at(plan[_POWERS], _f32(0.0), plan[_LAST] + 1)
    e, scale = Variable(np.int64(0)), float_of(scale_bits)
    with when((scale_bits > 0) & (scale_bits < INFINITE)):
        high = array_at(plan[_HIGH], np.int64(0), STEPS)
        low = array_at(plan[_LOW], np.int64(0), STEPS)
        e.now = lns_exact.code(
            bits, scale_bits, 1 << plan[_SHIFT], plan[_LAST], plan[_LOWEST], high, low, powers, draw
        )
    if coded is not None:
        return _i32(e.now | ((np.int64(bits) >> 31 & 1) << (plan[_BITS] - 1)))
    return _i32(value_bits(powers[e.now], scale) | (bits & SIGN))


@lane
def _numbers(plan: Any) -> Any:
    """Vectors that both kinds of format need, in the order in which `_steps` and others take them.

    Power of the lowest code in bits (not under -2^30: no scale lifts that to a float32), up to
    which power values are 0, power of e = 0, code of rung 0 of the scale's octave, shifts.
    """
    shift, below = plan[_SHIFT], plan[_LOWEST] - plan[_LAST]
    mantissas = array_at(plan[_MANTISSAS], _i32(0), LANES)
    low: Any = (((below >> shift) + 127) << 23) + mantissas[1 + (below & ((1 << shift) - 1))]
    low = _i32(max(low, -(1 << 30)))
    gone = _i32(choose(plan[_FLUSH] != 0, max(low, 0), -1))
    power = array_at(plan[_POWERS], _f32(0.0), 1)[0]
    last, right = _i32(plan[_LAST]), _i32(32 - plan[_BITS])
    return splat(low), splat(gone), splat(power), splat(last), splat(_i32(shift)), splat(right)


@lane
def _few_constants(plan: Any) -> Any:
    """Tables of a format of up to eight rungs an octave, in registers; numbers."""
    count = load(array_at(plan[_COUNT], _i32(0), LANES), 0)
    bound = load(array_at(plan[_BOUND], _i32(0), LANES), 0)
    return (
        count,
        bound,
        load(array_at(plan[_MANTISSAS], _i32(0), LANES), 0),
        (_numbers(plan)),
    )


@lane
def _many_constants(plan: Any) -> Any:
    """Tables of a format with more rungs an octave, in memory; numbers."""
    bounds = array_at(plan[_BOUNDS], _i32(0), LANES)
    gamma = splat(_f32(1 << plan[_SHIFT]))
    mantissas = array_at(plan[_MANTISSAS], _i32(0), LANES)
    return bounds, gamma, mantissas, _numbers(plan)


@lane
def _few_steps(m: Any, fixed: Any) -> Any:
    """Rungs from the beginning of its octave up to a fraction, and the boundary in question."""
    place = m >> splat(_AT_BIN)
    return look_up(fixed[0], place), look_up(fixed[1], place)


@lane
def _many_steps(m: Any, fixed: Any) -> Any:
    """`_few_steps` of other formats."""
    guess = simd.to_int(log2_of_significand(m) * fixed[1])
    return guess, gather(fixed[0], guess)


@lane
def _few_powers(at: Any, fixed: Any) -> Any:
    return look_up(fixed[2], at)


@lane
def _many_powers(at: Any, fixed: Any) -> Any:
    return gather(fixed[2], at)


@lane
def _of_scale(scale_bits: Any, fixed: Any) -> Any:
    """What a group needs: see the names."""
    low, _, power, last, shift, _ = fixed[3]
    exponent = splat(_i32(scale_bits & EXPONENT))
    one, zero = splat(ONE), splat(_i32(0))
    inverse, factor = splat(inverse_significand(scale_bits)), splat(float_of(scale_bits))
    least = low + (exponent - one)
    least = select(least > zero, least, zero)
    safe = exponent - splat(_i32(125 << 23))
    safe = select(safe > splat(_i32(2 << 23)), safe, splat(_i32(2 << 23)))
    base = last - ((exponent >> splat(_AT_EXPONENT)) << shift)
    # The value of a zero: itself, or the smallest code's.
    of_zero = simd.bits_of(power * factor)
    return exponent, one - exponent, inverse, factor, least, safe, base, of_zero


def _sixteen_of(find_steps: Any, find_power: Any) -> Any:
    """The function for sixteen numbers of a kind of format, see `rounding_loop`."""

    @lane
    def value_of(steps: Any, octave: Any, fixed: Any, factor: Any) -> Any:
        """Power of two `steps` rungs from the start of an octave, in bits, and the value."""
        power = octave + find_power(steps + splat(_i32(1)), fixed)
        kept = select(power > fixed[3][1], simd.float_of(power), splat(_f32(0.0)))
        return power, kept * factor

    @lane
    def move(sizes: Any, uniform: Any, steps: Any, octave: Any, fixed: Any, factor: Any) -> Any:
        """Steps and values after stochastic rounding."""
        low, zero, one = fixed[3][0], splat(_i32(0)), splat(_i32(1))
        floor = select(low > zero, low, zero)
        _, value = value_of(steps, octave, fixed, factor)
        down = simd.float_of(sizes) < value
        by = select(down, splat(_i32(-1)), one)
        power, other = value_of(steps + by, octave, fixed, factor)
        inside = (power >= floor) & (power <= splat(ONE))
        other = select(inside, other, value)
        under, over = select(down, other, value), select(down, value, other)
        up = uniform * (over - under) < simd.float_of(sizes) - under
        # Up from below, or not up from above: the other one.
        taken = select(up, one, zero) == select(down, zero, one)
        return select(inside & taken, steps + by, steps), select(up, over, under)

    @lane
    def sixteen(bits: Any, draws: Any, fixed: Any, group: Any, coded: Any) -> Any:
        exponent, to_power, inverse, factor, least, safe, base, of_zero = group
        shift, right, zero = fixed[3][4], fixed[3][5], splat(_i32(0))
        sizes = bits & splat(MAGNITUDE)
        q = simd.bits_of(simd.float_of(sizes) * inverse)
        q = select(q > least, q, least)
        q = select(q < exponent, q, exponent)
        m, octave = q & splat(FRACTION), (q & splat(EXPONENT)) + to_power
        steps, boundary = find_steps(m, fixed)
        far = m - boundary
        slow = q < safe
        if draws is None:
            slow = slow | ((far >= splat(_i32(-NEAR))) & (far <= splat(NEAR)))
        # The next rung from the boundary on: the sign of the distance is 0 or -1.
        steps = steps + splat(_i32(1)) + (far >> splat(_i32(31)))
        if draws is not None:
            steps, value = move(sizes, uniforms(draws), steps, octave, fixed, factor)
        elif coded is None:
            _, value = value_of(steps, octave, fixed, factor)
        if coded is None:
            size = select(sizes > zero, simd.bits_of(value), of_zero)
            return size | (bits & splat(SIGN)), slow
        e = ((q >> splat(_AT_EXPONENT)) << shift) + steps + base
        sign = simd.shift_right(bits & splat(SIGN), right)
        return select(sizes > zero, e, zero) | sign, slow

    return sixteen


round_few = rounding_loop(_few_constants, _of_scale, _sixteen_of(_few_steps, _few_powers), _one)
round_many = rounding_loop(_many_constants, _of_scale, _sixteen_of(_many_steps, _many_powers), _one)
