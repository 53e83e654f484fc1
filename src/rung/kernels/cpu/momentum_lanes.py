"""Momenta of 32 elements, two vectors, in every storage: `rung.kernels.momentum`.

Told apart by the type of `like`: float32 is itself, uint16 bfloat16, uint8 an 8-bit float, int8 two
4-bit floats; None means that there is none. Importing this imports numba.
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
from rung.kernels.cpu.moment_lanes import bounded, size_of
from rung.kernels.cpu.philox_noise import first_numbers, last_numbers
from rung.kernels.cpu.simd import bits_of, float_of, select, splat

_f32, _i32, _u8, _u16 = np.float32, np.int32, np.uint8, np.uint16


def _numbers(code: constants.Code) -> tuple[Any, ...]:
    """For `_decode` and `_encode`, in the types of lanes."""
    integers = (code.sign, code.largest, code.fraction, code.even, code.lowest)
    return (*map(_i32, integers), _f32(code.smallest))


_EIGHT, _FOUR = _numbers(constants.EIGHT), _numbers(constants.FOUR)


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
    return {
        types.float32: _float32,
        types.uint16: _bfloat16,
        types.uint8: _eight,
        types.int8: _four,
    }[like]


def bytes_of(elements: Any, like: Any) -> Any:
    """Of the momenta of a number of elements; of `BLOCK`s where two share a byte."""
    raise NotImplementedError  # numba's alone


@overload(bytes_of)
def _bytes_of(elements: Any, like: Any) -> Any:
    def paired(elements: Any, like: Any) -> Any:
        return (elements + 31) // 32 * 16

    def single(elements: Any, like: Any) -> Any:
        return elements * size_of(like)

    return paired if like == types.int8 else single


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
    x = _next(ratios[0], _decode(read(m, _u8(0)), _EIGHT), numbers)
    y = _next(ratios[1], _decode(read(m + 16, _u8(0)), _EIGHT), numbers)
    write(m, _u8(0), _encode(x, first_numbers(noise), _EIGHT))
    write(m + 16, _u8(0), _encode(y, last_numbers(noise), _EIGHT))
    return x, y


def _four(ratios: Any, m: Any, like: Any, noise: Any, numbers: Any) -> Any:
    both = read(m, _u8(0))
    x = _next(ratios[0], _decode(both & splat(_i32(15)), _FOUR), numbers)
    y = _next(ratios[1], _decode(both >> splat(_i32(4)), _FOUR), numbers)
    low = _encode(x, first_numbers(noise), _FOUR)
    high = _encode(y, last_numbers(noise), _FOUR)
    write(m, _u8(0), low | (high << splat(_i32(4))))
    return x, y


@lane
def _decode(stored: Any, code: Any) -> Any:
    """`momentum.read` of sixteen codes in int32."""
    sign, _, fraction, even_ones, lowest, smallest = code
    size = stored & splat(sign - _i32(1))
    value = float_of((size + splat(lowest - even_ones)) << splat(fraction))
    even = float_of((size + splat(lowest)) << splat(fraction)) - splat(smallest)
    value = select(splat(even_ones) > size, even, value)
    negative = (stored & splat(sign)) > splat(_i32(0))
    return select(negative, float_of(bits_of(value) | splat(_i32(-(2**31)))), value)


@lane
def _encode(values: Any, draws: Any, code: Any) -> Any:
    """`momentum.write` of sixteen float32: codes in int32."""
    sign, largest, fraction, even_ones, lowest, smallest = code
    size = float_of(bits_of(values) & splat(_i32(0x7FFFFFFF)))
    low = size < splat(smallest)
    bits = bits_of(select(low, size + splat(smallest), size))
    bits = bits + (draws << splat(fraction - _i32(16)))
    drop = select(low, splat(lowest), splat(lowest - even_ones))
    rounded = (bits >> splat(fraction)) - drop
    rounded = select(rounded < splat(largest), rounded, splat(largest))
    negative = values < splat(_f32(0))
    return rounded | select(negative, splat(sign), splat(_i32(0)))
