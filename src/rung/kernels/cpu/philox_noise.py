"""Random numbers for the elements of a step's loop, `moment.random_halves`.

Importing this imports numba.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.jit import lane
from rung.kernels.cpu.memory_lanes import read, read_splat, write
from rung.kernels.cpu.philox_lanes import (
    beside,
    counters,
    first_blocks,
    last_blocks,
    products,
    upper,
    upper_twice,
)
from rung.kernels.cpu.simd import lanes, shift_right, splat

_i32, _u64 = np.int32, np.uint64
_M0, _M1 = _i32(-0x2DAEE0AD), _i32(-0x326172A9)
KEYS = 20 * 64  # bytes of a key schedule


@lane
def key_schedule(target: Any, key: Any) -> None:
    """Both halves of the ten rounds' keys, each sixteen times: `KEYS` bytes at an address."""
    low, high = _u64(key), _u64(key) >> _u64(32)
    for i in range(10):
        write(target + 128 * i, _i32(0), splat(_i32(np.uint32(low))))
        write(target + 128 * i + 64, _i32(0), splat(_i32(np.uint32(high))))
        low, high = low + _u64(0x9E3779B9), high + _u64(0xBB67AE85)


@lane
def eight_blocks(keys: Any, block: Any, step: Any, purpose: Any) -> Any:
    """The 32 words of eight blocks in order, in two vectors.

    Args:
        keys: Address of a `key_schedule`.
        block: Index of the first block, uint64.
        step: Third counter word, int32 bit pattern.
        purpose: Fourth counter word, int32.
    """
    a0 = counters(block)
    a1, a2, a3 = upper(a0), splat(step), splat(purpose)
    for i in range(10):
        k0, k1 = read(keys + 128 * i, _i32(0)), read(keys + 128 * i + 64, _i32(0))
        p, q = products(splat(_M0), a0), products(splat(_M1), a2)
        a0, a1, a2, a3 = upper(q) ^ a1 ^ k0, q, upper_twice(p, p) ^ a3 ^ k1, p
    x, y = beside(a0, a1), beside(a2, a3)
    return first_blocks(x, y), last_blocks(x, y)


SHARED = 1024  # elements whose numbers are made at a time
ROOM = 256  # bytes of them


@lane
def shared_halves(target: Any, keys: Any, first: Any, step: Any, purpose: Any) -> None:
    """The numbers of elements first ... first + `SHARED` - 1, one for 32 of them.

    `first` is a multiple of `SHARED`. Lower halves of the words, then upper ones: `ROOM` bytes.
    """
    a, b = eight_blocks(keys, _u64(first // 128), step, purpose)
    write(target, _i32(0), a & splat(_i32(0xFFFF)))
    write(target + 64, _i32(0), b & splat(_i32(0xFFFF)))
    write(target + 128, _i32(0), shift_right(a, splat(_i32(16))))
    write(target + 192, _i32(0), shift_right(b, splat(_i32(16))))


@lane
def first_numbers(place: Any) -> Any:
    """The numbers of the first sixteen of 32 elements that share the one at an address."""
    return read_splat(place) ^ (lanes() << splat(_i32(11)))


@lane
def last_numbers(place: Any) -> Any:
    """The last sixteen's."""
    return read_splat(place) ^ ((lanes() << splat(_i32(11))) | splat(_i32(0x8000)))
