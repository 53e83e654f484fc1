"""Loops over magnitudes, compiled by numba: whether one is too large, and which is the largest."""

from typing import Any

import numpy as np

from rung.kernels.cpu.arrays import array_at, on_stack
from rung.kernels.cpu.jit import jit, lane
from rung.kernels.cpu.lane_control import Variable, loop
from rung.kernels.cpu.lane_operands import choose
from rung.kernels.cpu.memory_lanes import prefetch, read, store
from rung.kernels.cpu.moment_lanes import size_of
from rung.kernels.cpu.simd import LANES, any_lane, select, splat

_i32, _u16 = np.int32, np.uint16
CHUNK = 2**17  # elements
_AHEAD = 1024  # bytes
# Of a dtype: a zero of its bits' type, the bits of a magnitude, and the largest of those that are
# not beyond: those of 2^63, and float16's largest finite number. NaN and infinity are larger.
FLOAT32 = (_i32(0), _i32(0x7FFFFFFF), _i32(0x5F000000))
BFLOAT16, FLOAT16 = (_u16(0), _i32(0x7FFF), _i32(0x5F00)), (_u16(0), _i32(0x7FFF), _i32(0x7BFF))
CODES = (np.uint8(0), _i32(0xFF), _i32(0xFF))  # numbers without a sign, none of which is beyond


@lane
def _largest_of_vectors(address: Any, n: Any, kind: Any) -> Any:
    """Bits of the largest of 128 k magnitudes in each of sixteen lanes; 0 of none."""
    # One core reads eight places of memory at a time a third faster than one.
    part = n // 8 * size_of(kind[0])
    most = [Variable(splat(_i32(0))) for _ in range(4)]
    for i in loop(address, address + part, LANES * size_of(kind[0])):
        for k in range(8):
            prefetch(i + k * part + _AHEAD)
        for k in range(8):
            size = read(i + k * part, kind[0]) & splat(kind[1])
            most[k % 4].now = select(size > most[k % 4].now, size, most[k % 4].now)
    a, b, c, d = (one.now for one in most)
    a, c = select(a > b, a, b), select(c > d, c, d)
    return select(a > c, a, c)


@lane
def _largest_of_rest(address: Any, begin: Any, end: Any, kind: Any) -> Any:
    """Of the numbers begin ... end - 1."""
    numbers, most = array_at(address, kind[0], end), Variable(_i32(0))
    for i in loop(begin, end):
        size = _i32(numbers[i] & kind[1])
        most.now = choose(size > most.now, size, most.now)
    return most.now


@lane
def _beyond(address: Any, n: Any, kind: Any) -> Any:
    full = n & np.int64(-8 * LANES)
    vectors = any_lane(_largest_of_vectors(address, full, kind) > splat(kind[2]))
    return vectors | (_largest_of_rest(address, full, n, kind) > kind[2])


@lane
def _largest(address: Any, n: Any, kind: Any) -> Any:
    full = n & np.int64(-8 * LANES)
    lanes, most = on_stack(_i32(0)), Variable(_largest_of_rest(address, full, n, kind))
    store(lanes, np.int64(0), _largest_of_vectors(address, full, kind))
    for k in loop(0, LANES):
        most.now = choose(lanes[k] > most.now, lanes[k], most.now)
    return most.now


@jit
def beyond(addresses: Any, counts: Any, chunks: Any, kind: Any, begin: Any, end: Any) -> Any:
    """Whether chunks begin ... end - 1 of a list of tensors hold NaN, infinity or over 2^63.

    Args:
        addresses: int64, of tensors of one dtype.
        counts: int64, their elements.
        chunks: int64, number of chunks before each tensor, and in all.
        kind: The dtype, `FLOAT32` or another.
        begin: First chunk.
        end: Behind the last.
    """
    row = 0
    for chunk in range(begin, end):
        while chunk >= chunks[row + 1]:
            row += 1
        first = (chunk - chunks[row]) * CHUNK
        n = min(CHUNK, counts[row] - first)
        if _beyond(addresses[row] + size_of(kind[0]) * first, n, kind):
            return True
    return False


@jit
def largest(
    addresses: Any, counts: Any, chunks: Any, kind: Any, out: Any, begin: Any, end: Any
) -> None:
    """Bits of the largest magnitude of each chunk, NaN above all, into int32; as `beyond`."""
    row = 0
    for chunk in range(begin, end):
        while chunk >= chunks[row + 1]:
            row += 1
        first = (chunk - chunks[row]) * CHUNK
        n = min(CHUNK, counts[row] - first)
        out[chunk] = _largest(addresses[row] + size_of(kind[0]) * first, n, kind)
