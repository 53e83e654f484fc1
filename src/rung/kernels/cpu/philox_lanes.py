"""Philox4x32-10 in vectors: 64 random words at a time. Importing this imports numba.

A vector of sixteen 32-bit lanes is eight of 64 bits here, whose lower halves hold a word of eight
blocks. What the upper halves hold doesn't matter: products read the lower ones alone.
"""

from typing import Any

import numpy as np
from llvmlite import ir

from rung.kernels.cpu.jit import inner, intrinsic
from rung.kernels.cpu.memory_lanes import store
from rung.kernels.cpu.simd import INTS, splat

WORDS = 64  # of a call

_WIDE, _NARROW = ir.VectorType(ir.IntType(64), 8), ir.VectorType(ir.IntType(32), 16)
_LOWER = ir.Constant(_WIDE, [0xFFFFFFFF] * 8)
_HALF = ir.Constant(_WIDE, [32] * 8)


@intrinsic
def products(_context: Any, a: Any, b: Any) -> Any:
    """64-bit products of the lower halves."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        x, y = (builder.and_(builder.bitcast(v, _WIDE), _LOWER) for v in arguments)
        return builder.bitcast(builder.mul(x, y), _NARROW)

    return INTS(INTS, INTS), build


@intrinsic
def upper(_context: Any, a: Any) -> Any:
    """Upper halves, moved down."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = builder.lshr(builder.bitcast(arguments[0], _WIDE), _HALF)
        return builder.bitcast(wide, _NARROW)

    return INTS(INTS), build


@intrinsic
def counters(_context: Any, first: Any) -> Any:
    """first, first + 1, ... first + 7 of a uint64."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        one = builder.insert_element(
            ir.Constant(_WIDE, ir.Undefined), arguments[0], ir.Constant(ir.IntType(32), 0)
        )
        every = builder.shuffle_vector(
            one, one, ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)
        )
        return builder.bitcast(builder.add(every, ir.Constant(_WIDE, list(range(8)))), _NARROW)

    return INTS(first), build


def _shuffle(places: list[int]) -> Any:
    """An intrinsic that picks sixteen of the 32 lanes of two vectors."""

    @intrinsic
    def pick(_context: Any, a: Any, b: Any) -> Any:
        def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.shuffle_vector(*arguments, ir.Constant(_NARROW, places))

        return INTS(INTS, INTS), build

    return pick


upper_twice = _shuffle([lane // 2 * 2 + 1 for lane in range(16)])

# Two words of every block side by side, then whole blocks in order.
beside = _shuffle([lane // 2 * 2 + 16 * (lane % 2) for lane in range(16)])
first_blocks = _shuffle([x for k in range(4) for x in (2 * k, 2 * k + 1, 16 + 2 * k, 17 + 2 * k)])
last_blocks = _shuffle([x for k in range(4, 8) for x in (2 * k, 2 * k + 1, 16 + 2 * k, 17 + 2 * k)])


@inner
def key_schedule(key: Any, keys: Any) -> None:
    """Both halves of the ten rounds' keys into an int32 array of 20."""
    low, high = np.uint64(key) & np.uint64(0xFFFFFFFF), np.uint64(key) >> np.uint64(32)
    for i in range(10):
        keys[2 * i], keys[2 * i + 1] = np.int32(np.uint32(low)), np.int32(np.uint32(high))
        low, high = low + np.uint64(0x9E3779B9), high + np.uint64(0xBB67AE85)


@inner
def fill_words(words: Any, place: Any, keys: Any, block: Any, step: Any, purpose: Any) -> None:
    """Words of sixteen consecutive blocks into int32 words[place : place + 64].

    Args:
        words: int32 array.
        place: First index.
        keys: Of `key_schedule`.
        block: Index of the first block, uint64.
        step: Third counter word, int32 bit pattern.
        purpose: Fourth counter word, int32.
    """
    m0, m1 = splat(np.int32(-0x2DAEE0AD)), splat(np.int32(-0x326172A9))
    # Two vectors of blocks: one's long chain of products leaves the processor waiting.
    a0, b0 = counters(block), counters(block + np.uint64(8))
    a1, b1 = upper(a0), upper(b0)
    a2 = b2 = splat(step)
    a3 = b3 = splat(purpose)
    for i in range(10):
        k0, k1 = splat(keys[2 * i]), splat(keys[2 * i + 1])
        p, q = products(m0, a0), products(m1, a2)
        a0, a1, a2, a3 = upper(q) ^ a1 ^ k0, q, upper_twice(p, p) ^ a3 ^ k1, p
        p, q = products(m0, b0), products(m1, b2)
        b0, b1, b2, b3 = upper(q) ^ b1 ^ k0, q, upper_twice(p, p) ^ b3 ^ k1, p
    x, y = beside(a0, a1), beside(a2, a3)
    store(words, place, first_blocks(x, y))
    store(words, place + 16, last_blocks(x, y))
    x, y = beside(b0, b1), beside(b2, b3)
    store(words, place + 32, first_blocks(x, y))
    store(words, place + 48, last_blocks(x, y))
