"""Momenta of 32 elements, two vectors, in every storage: `rung.kernels.momentum`.

Told apart by the type of `like`: float32 is itself, uint16 bfloat16, uint8 an 8-bit float; None
means that there is none. Importing this imports numba.
"""

from typing import Any

import numpy as np
from numba import types

from rung.kernels import momentum as constants
from rung.kernels.cpu.half_lanes import (
    first_floats,
    last_floats,
    read_halves,
    upper_halves,
    write_halves,
)
from rung.kernels.cpu.jit import lane, overload
from rung.kernels.cpu.memory_lanes import read, write
from rung.kernels.cpu.moment_lanes import bounded
from rung.kernels.cpu.philox_noise import first_numbers, last_numbers
from rung.kernels.cpu.simd import bits_of, float_of, select, splat

_f32, _i32, _u8, _u16 = np.float32, np.int32, np.uint8, np.uint16
_SIGN, _LARGEST, _LOWEST = (
    _i32(constants.SIGN),
    _i32(constants.LARGEST),
    _i32(constants.LOWEST),
)
_SMALLEST, _FRACTION = _f32(constants.SMALLEST), _i32(constants.FRACTION)
_DRAWN = _i32(constants.FRACTION - 16)


def carry(ratios: Any, m: Any, like: Any, noise: Any, numbers: Any) -> Any:
    """Move 32 momenta; what weights move by: the new ones, or without any the ratios.

    Args:
        ratios: Of `moment_lanes.advance`, two vectors.
        m: Address of the momenta.
        like: Their storage.
        noise: Address of the momenta's random number; unused by float32.
        numbers: u per ratio, clip, momentum, 1 - momentum; float32.
    """
    raise NotImplementedError  # numba's alone


@overload(carry)
def _carry(ratios: Any, m: Any, like: Any, noise: Any, numbers: Any) -> Any:
    if like is None or isinstance(like, types.NoneType):
        return _none
    return {types.float32: _float32, types.uint16: _bfloat16, types.uint8: _eight}[like]


@lane
def _next(ratio: Any, old: Any, numbers: Any) -> Any:
    normal, clip, beta, rest = numbers
    return old * splat(beta) + bounded(ratio * splat(normal), clip) * splat(rest)


def _none(ratios: Any, m: Any, like: Any, noise: Any, numbers: Any) -> Any:
    return ratios


def _float32(ratios: Any, m: Any, like: Any, noise: Any, numbers: Any) -> Any:
    x = _next(ratios[0], read(m, _f32(0)), numbers)
    y = _next(ratios[1], read(m + 64, _f32(0)), numbers)
    write(m, _f32(0), x)
    write(m + 64, _f32(0), y)
    return x, y


def _bfloat16(ratios: Any, m: Any, like: Any, noise: Any, numbers: Any) -> Any:
    both = read_halves(m, _u16(0))
    x = _next(ratios[0], first_floats(both), numbers)
    y = _next(ratios[1], last_floats(both), numbers)
    a, b = bits_of(x) + first_numbers(noise), bits_of(y) + last_numbers(noise)
    write_halves(m, _u16(0), upper_halves(a, b))
    return x, y


def _eight(ratios: Any, m: Any, like: Any, noise: Any, numbers: Any) -> Any:
    x = _next(ratios[0], _decode(read(m, _u8(0))), numbers)
    y = _next(ratios[1], _decode(read(m + 16, _u8(0))), numbers)
    write(m, _u8(0), _encode(x, first_numbers(noise)))
    write(m + 16, _u8(0), _encode(y, last_numbers(noise)))
    return x, y


@lane
def _decode(stored: Any) -> Any:
    """`momentum.read` of sixteen codes in int32."""
    code = stored & splat(_SIGN - _i32(1))
    value = float_of((code + splat(_LOWEST - _i32(8))) << splat(_FRACTION))
    even = float_of((code + splat(_LOWEST)) << splat(_FRACTION)) - splat(_SMALLEST)
    value = select(splat(_i32(8)) > code, even, value)
    return float_of(bits_of(value) | ((stored & splat(_SIGN)) << splat(_i32(24))))


@lane
def _encode(values: Any, draws: Any) -> Any:
    """`momentum.write` of sixteen float32: codes in int32."""
    size = float_of(bits_of(values) & splat(_i32(0x7FFFFFFF)))
    low = size < splat(_SMALLEST)
    bits = bits_of(select(low, size + splat(_SMALLEST), size)) + (draws << splat(_DRAWN))
    drop = select(low, splat(_LOWEST), splat(_LOWEST - _i32(8)))
    code = (bits >> splat(_FRACTION)) - drop
    code = select(code < splat(_LARGEST), code, splat(_LARGEST))
    negative = values < splat(_f32(0))
    return code | select(negative, splat(_SIGN), splat(_i32(0)))
