"""Sixteen numbers on a grid of MX or of a small float. Importing this imports numba.

Rounding to a step 2^k is the addition and subtraction of 2^(k + 23), whose float32 neighbours lie
2^k apart: float32's own rounding to nearest even does the work.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu import simd
from rung.kernels.cpu.float32_math import float_of
from rung.kernels.cpu.jit import inlined, lane
from rung.kernels.cpu.rung_lanes import EXPONENT, MAGNITUDE, SIGN
from rung.kernels.cpu.simd import select, splat

_TO_MAGIC, _INVERSE = np.int32(23 << 23), np.int32(254 << 23)
_f32, _i32 = np.float32, np.int32


@inlined
def power_of(code: Any) -> Any:
    """2^(code - 127) for 0 <= code <= 254; 2^-127 is a subnormal number."""
    return float_of(_i32(code << 23) if code else _i32(1 << 22))


@inlined
def grid_vectors(grid: Any) -> Any:
    """What the lanes of a grid need, from the numbers that `cpu.mx` makes."""
    lowest, mantissa, largest, zero, bits, fixed = grid
    lowest_code = _i32(lowest) - _i32(1 << 23)
    at = _i32(23 - (mantissa >> 23))
    return (
        splat(_i32(lowest)),
        splat(_i32(mantissa)),
        splat(_f32(largest)),
        splat(_f32(zero)),
        splat(_i32(1 << (bits - 1))),
        splat(at),
        splat(_i32(lowest_code >> at)),
        splat(_i32(-1 if fixed else 0)),
    )


@lane
def smaller(x: Any, y: Any) -> Any:
    """The smaller of two floats; y if either is NaN."""
    return select(x < y, x, y)


@lane
def bounded(value: Any, most: Any) -> Any:
    """Values within -most ... most; NaN stays."""
    least = splat(_f32(0.0)) - most
    value = select(value > most, most, value)
    return select(value < least, least, value)


@lane
def rounded(value: Any, words: Any, grid: Any) -> Any:
    """Bits of magnitudes on the grid, and of the signs of values; words None: to nearest."""
    lowest, mantissa, largest = grid[0], grid[1], grid[2]
    bits = simd.bits_of(value)
    size = bits & splat(MAGNITUDE)
    exponent = size & splat(EXPONENT)
    exponent = select(exponent > lowest, exponent, lowest) - mantissa
    size = simd.float_of(size)
    if words is None:
        magic = simd.float_of(exponent + splat(_TO_MAGIC))
        rounded = (size + magic) - magic
    else:
        position = size * simd.float_of(splat(_INVERSE) - exponent)
        below = simd.to_float(simd.to_int(position))
        draw = simd.to_float(simd.shift_right(words, splat(_i32(8)))) * splat(_f32(2.0**-24))
        up = select(draw < position - below, splat(_f32(1.0)), splat(_f32(0.0)))
        rounded = (below + up) * simd.float_of(exponent)
    return simd.bits_of(smaller(rounded, largest)), bits & splat(SIGN)


@lane
def signed(size: Any, sign: Any, grid: Any) -> Any:
    """Values of magnitudes and signs: fixed point has no negative zero."""
    return simd.float_of(size | sign) + grid[3]


@lane
def codes_of(size: Any, sign: Any, grid: Any) -> Any:
    """Codes of magnitudes on the grid, in bits, with signs."""
    lowest, mantissa, top, at, first, fixed = grid[0], grid[1], grid[4], grid[5], grid[6], grid[7]
    step = simd.float_of(splat(_INVERSE) - lowest + mantissa)
    # Above the smallest normal number a code is the float's own upper bits.
    counted = simd.to_int(simd.float_of(select(size < lowest, size, splat(_i32(0)))) * step)
    code = select(size < lowest, counted, (size >> at) - first)
    negative = sign >> splat(_i32(31))  # -1 or 0
    twos = ((code ^ negative) - negative) & (top + top - splat(_i32(1)))
    return select(fixed < splat(_i32(0)), twos, code | (negative & top))
