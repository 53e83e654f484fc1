"""Second moments and normalised gradients of 32 elements, two vectors, in every storage.

Moments are told apart by the type of `like`: float32 is itself, uint16 bfloat16, uint8 log codes.
Importing this imports numba.
"""

from typing import Any

import numpy as np
from numba import types

from rung.kernels import inverse_root as constants
from rung.kernels.cpu.half_lanes import (
    first_floats,
    last_floats,
    read_halves,
    upper_halves,
    write_halves,
)
from rung.kernels.cpu.jit import intrinsic, lane, overload
from rung.kernels.cpu.memory_lanes import read, write
from rung.kernels.cpu.philox_noise import first_numbers, last_numbers
from rung.kernels.cpu.simd import bits_of, float_of, look_up, select, shift_right, splat, to_float

_f32, _i32, _u8, _u16 = np.float32, np.int32, np.uint8, np.uint16
_MAGIC = _i32(constants.MAGIC)
_FIRST, _SECOND = _f32(constants.FIRST), _f32(constants.SECOND)
_HALF_STEP, _STEP = _f32(0.5), _f32(2.0**-16)


@lane
def ratio(g: Any, v: Any) -> Any:
    """G times `inverse_root.unscaled` of v."""
    y = float_of(splat(_MAGIC) - shift_right(bits_of(v), splat(_i32(1))))
    y = y * (splat(_FIRST) - (v * y) * y)
    return g * (y * (splat(_SECOND) - (v * y) * y))


@lane
def bounded(x: Any, limit: Any) -> Any:
    """Limited to +-limit, a float32; NaN becomes the limit."""
    x = select(x < splat(limit), x, splat(limit))
    return select(x > splat(-limit), x, splat(-limit))


@lane
def limited(x: Any, limit: Any) -> Any:
    """Limited to +-limit, a float32; NaN stays."""
    x = select(x > splat(limit), splat(limit), x)
    return select(x < splat(-limit), splat(-limit), x)


@intrinsic
def size_of(_context: Any, like: Any) -> Any:
    """Bytes of a number; 0 of None."""
    size = 0 if isinstance(like, types.NoneType) else like.bitwidth // 8

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.int64, size)

    return types.int64(like), build


def read_gradients(address: Any, like: Any) -> Any:
    """Two times sixteen gradients in float32, or in bfloat16 if `like` is a uint16."""
    raise NotImplementedError  # numba's alone


@overload(read_gradients)
def _read_gradients(address: Any, like: Any) -> Any:
    def full(address: Any, like: Any) -> Any:
        return read(address, _f32(0)), read(address + 64, _f32(0))

    def half(address: Any, like: Any) -> Any:
        both = read_halves(address, _u16(0))
        return first_floats(both), last_floats(both)

    return full if like == types.float32 else half


def advance(
    g: Any, v: Any, like: Any, noise: Any, beta: Any, rest: Any, scales: Any, tables: Any
) -> Any:
    """Move 32 moments; the gradients' `ratio` to the new ones.

    Args:
        g: Gradients, two vectors.
        v: Address of the moments.
        like: Their storage.
        noise: Address of the moments' random number, see `first_numbers`; unused by float32.
        beta: float32.
        rest: 1 - beta.
        scales: Of log codes: the scale of those that are read, 1 / scale of those written.
        tables: Address of four rows of sixteen float32, see `moment.log8_tables`.
    """
    raise NotImplementedError  # numba's alone


@overload(advance)
def _advance(
    g: Any, v: Any, like: Any, noise: Any, beta: Any, rest: Any, scales: Any, tables: Any
) -> Any:
    storages = {types.float32: _float32, types.uint16: _bfloat16, types.uint8: _log8}
    return storages[like]


@lane
def _next(g: Any, old: Any, beta: Any, rest: Any) -> Any:
    return old * splat(beta) + (g * g) * splat(rest)


def _float32(
    g: Any, v: Any, like: Any, noise: Any, beta: Any, rest: Any, scales: Any, tables: Any
) -> Any:
    p, q = g
    x, y = read(v, _f32(0)), read(v + 64, _f32(0))
    x, y = _next(p, x, beta, rest), _next(q, y, beta, rest)
    write(v, _f32(0), x)
    write(v + 64, _f32(0), y)
    return ratio(p, x), ratio(q, y)


def _bfloat16(
    g: Any, v: Any, like: Any, noise: Any, beta: Any, rest: Any, scales: Any, tables: Any
) -> Any:
    p, q = g
    both = read_halves(v, _u16(0))
    x = _next(p, first_floats(both), beta, rest)
    y = _next(q, last_floats(both), beta, rest)
    a, b = bits_of(x) + first_numbers(noise), bits_of(y) + last_numbers(noise)
    write_halves(v, _u16(0), upper_halves(a, b))
    return ratio(p, x), ratio(q, y)


def _log8(
    g: Any, v: Any, like: Any, noise: Any, beta: Any, rest: Any, scales: Any, tables: Any
) -> Any:
    p, q = g
    x = _sixteen_log8(p, v, first_numbers(noise), beta, rest, scales, tables)
    y = _sixteen_log8(q, v + 16, last_numbers(noise), beta, rest, scales, tables)
    return ratio(p, x), ratio(q, y)


@lane
def _sixteen_log8(
    g: Any, v: Any, noise: Any, beta: Any, rest: Any, scales: Any, tables: Any
) -> Any:
    scale, inverse = scales
    power = read(tables, _f32(0))
    one, zero, top = splat(_i32(1)), splat(_i32(0)), splat(_i32(255))
    code = read(v, _u8(0))
    octave = (((code + one) >> splat(_i32(3))) - splat(_i32(32))) << splat(_i32(23))
    old = float_of(bits_of(look_up(power, (code + one) & splat(_i32(7)))) + octave) * splat(scale)
    old = select(code > zero, old, splat(_f32(0)))
    new = _next(g, old, beta, rest)
    bits = bits_of(new * splat(inverse))
    m = float_of((bits & splat(_i32(0x7FFFFF))) | splat(_i32(0x3F800000)))
    # No sixteenth of an octave's mantissas holds more than one rung.
    sector = bits >> splat(_i32(19))
    k = look_up(read(tables + 192, _i32(0)), sector)
    k = select(m >= look_up(read(tables + 64, _f32(0)), sector), k + one, k)
    odds = (m - look_up(power, k)) * look_up(read(tables + 128, _f32(0)), k)
    draws = (to_float(noise) + splat(_HALF_STEP)) * splat(_STEP)
    below = (((bits >> splat(_i32(23))) - splat(_i32(127))) << splat(_i32(3))) + k + top
    code = select(draws < odds, below + one, below)
    code = select(code > one, code, one)
    code = select(code < top, code, top)
    write(v, _u8(0), select(new > splat(_f32(0)), code, zero))
    return new
