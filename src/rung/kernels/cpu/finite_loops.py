"""The loop of `cpu.finite`, compiled by numba."""

from typing import Any

import numba
import numpy as np

from rung.kernels.cpu.jit import jit, lane
from rung.kernels.cpu.simd import any_lane, pointer, prefetch, read, select, splat

_f32, _i32, _u16 = np.float32, np.int32, np.uint16
CHUNK = 2**17  # elements
_AHEAD = 1024  # bytes
# Bit patterns of magnitudes: those of 2^63, and float16's largest finite number.
_LARGEST = (_i32(0x5F000000), _i32(0x5F00), _i32(0x7BFF))
FLOAT32, BFLOAT16, FLOAT16 = range(3)


@jit
def _largest_float(address: Any, n: Any) -> Any:
    """Whether any of 128 k floats is beyond; NaN and infinity have larger patterns."""
    # One core reads eight places of memory at a time a third faster than one.
    limit, part = splat(_LARGEST[0]), n // 2
    a = b = c = d = splat(_i32(0))
    for i in range(address, address + part, 64):
        j = i + 4 * part
        for k in range(4):
            prefetch(i + k * part + _AHEAD)
            prefetch(j + k * part + _AHEAD)
        a, b = _larger(a, i), _larger(b, i + part)
        c, d = _larger(c, i + 2 * part), _larger(d, i + 3 * part)
        a, b = _larger(a, j), _larger(b, j + part)
        c, d = _larger(c, j + 2 * part), _larger(d, j + 3 * part)
    return any_lane((a > limit) | (b > limit) | (c > limit) | (d > limit))


@lane
def _larger(most: Any, address: Any) -> Any:
    size = read(address, _i32(0)) & splat(_i32(0x7FFFFFFF))
    return select(size > most, size, most)


@jit
def _largest_half(address: Any, n: Any, limit: Any) -> Any:
    """Whether any of 128 k 16-bit floats is."""
    mask, a = splat(_i32(0x7FFF)), splat(_i32(0))
    b = a
    for i in range(address, address + n, 32):
        p, q = read(i, _u16(0)) & mask, read(i + n, _u16(0)) & mask
        a, b = select(p > a, p, a), select(q > b, q, b)
    return any_lane((a > splat(limit)) | (b > splat(limit)))


@jit
def beyond(addresses: Any, counts: Any, chunks: Any, kind: Any, begin: Any, end: Any) -> Any:
    """Whether chunks begin ... end - 1 of a list of tensors hold NaN, infinity or over 2^63.

    Args:
        addresses: int64, of tensors of one dtype.
        counts: int64, their elements.
        chunks: int64, number of chunks before each tensor, and in all.
        kind: The dtype.
        begin: First chunk.
        end: Behind the last.
    """
    row, found = 0, False
    for chunk in range(begin, end):
        while chunk >= chunks[row + 1]:
            row += 1
        first = (chunk - chunks[row]) * CHUNK
        n = min(CHUNK, counts[row] - first)
        full = n - n % 128
        if kind == FLOAT32:
            place = addresses[row] + 4 * first
            found |= _largest_float(place, full)
            words = numba.carray(pointer(place, _i32(0)), n)
            for i in range(full, n):
                found |= (words[i] & 0x7FFFFFFF) > _LARGEST[0]
        else:
            place, limit = addresses[row] + 2 * first, _LARGEST[kind]
            found |= _largest_half(place, full, limit)
            halves = numba.carray(pointer(place, _u16(0)), n)
            for i in range(full, n):
                found |= (halves[i] & 0x7FFF) > limit
        if found:
            return True
    return False
