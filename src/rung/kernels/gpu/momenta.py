"""Momenta in their storages: read, advance, round, write: `rung.kernels.momentum`."""

import torch
import triton.language as tl

from rung.kernels import momentum, philox
from rung.kernels.gpu.chunks import bits_of, float_of, halves, load_float, pointer
from rung.kernels.gpu.jit import Value, jit
from rung.kernels.gpu.moments import KINDS

NONE = -1
"""A kind beside those of `moments.KINDS`: there is no momentum."""
FOUR_BITS = len(KINDS)
"""And another."""

_FLOAT32, _BFLOAT16, _FOUR_BITS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(FOUR_BITS)
_PURPOSE = tl.constexpr(philox.PURPOSE_MOMENTUM)
_HALF_BLOCK = tl.constexpr(momentum.BLOCK // 2)


def _constant(code: momentum.Code) -> tl.constexpr:
    """For `_decode` and `_encode`."""
    integers = (code.sign, code.largest, code.fraction, code.even, code.lowest)
    return tl.constexpr((*integers, code.smallest))


_EIGHT, _FOUR = _constant(momentum.EIGHT), _constant(momentum.FOUR)


def kind_of(stored: torch.Tensor | None) -> int:
    """How momenta are stored, for `carry`."""
    if stored is None:
        return NONE
    return FOUR_BITS if stored.dtype == torch.int8 else KINDS[stored.dtype]


@jit
def _decode(stored: Value, CODE: tl.constexpr) -> Value:
    """float32 values of int32 codes."""
    sign: tl.constexpr = CODE[0]
    fraction: tl.constexpr = CODE[2]
    even_ones: tl.constexpr = CODE[3]
    lowest: tl.constexpr = CODE[4]
    smallest: tl.constexpr = CODE[5]
    size = stored & (sign - 1)
    value = float_of((size + (lowest - even_ones)) << fraction)
    even = float_of((size + lowest) << fraction) - smallest
    value = tl.where(size < even_ones, even, value)
    return tl.where(stored >= sign, -value, value)


@jit
def _encode(m: Value, draws: Value, CODE: tl.constexpr) -> Value:
    """int32 codes of float32 values, one of the two neighbours."""
    sign: tl.constexpr = CODE[0]
    largest: tl.constexpr = CODE[1]
    fraction: tl.constexpr = CODE[2]
    even_ones: tl.constexpr = CODE[3]
    lowest: tl.constexpr = CODE[4]
    smallest: tl.constexpr = CODE[5]
    size = tl.abs(m)
    low = size < smallest
    bits = bits_of(tl.where(low, size + smallest, size)) + (draws << (fraction - 16))
    code = (bits >> fraction) - tl.where(low, lowest, lowest - even_ones)
    return tl.minimum(code, largest) | tl.where(m < 0, sign, 0)


@jit
def _next_four(
    address: Value, first: Value, mask: Value, u: Value, beta: Value, draws: Value,
    CHUNK: tl.constexpr,
) -> Value:  # fmt: skip
    """`carry` of codes that share bytes: byte j of a block has element j, and 16 + j above it."""
    shape: tl.constexpr = (CHUNK // (2 * _HALF_BLOCK), 2, _HALF_BLOCK)
    turned: tl.constexpr = (CHUNK // (2 * _HALF_BLOCK), _HALF_BLOCK, 2)
    p = pointer(address, first // 2, tl.uint8, 1, False) + tl.arange(0, CHUNK // 2)
    some, _ = tl.split(tl.permute(tl.reshape(mask.to(tl.int32), shape), (0, 2, 1)))
    # A block whose first element is there is there whole.
    there = tl.broadcast_to(tl.max(some, 1, keep_dims=True), (turned[0], turned[1]))
    there = tl.reshape(there, (CHUNK // 2,)) > 0
    both = tl.load(p, there, other=0).to(tl.int32)
    codes = tl.reshape(tl.join(both & 15, both >> 4), turned)
    codes = tl.reshape(tl.permute(codes, (0, 2, 1)), (CHUNK,))
    m = _decode(codes, _FOUR) * beta + u
    code = tl.reshape(_encode(m, draws, _FOUR), shape)
    low, high = tl.split(tl.permute(code, (0, 2, 1)))
    tl.store(p, tl.reshape(low | (high << 4), (CHUNK // 2,)).to(tl.uint8), there)
    return m


@jit
def carry(
    address: Value, first: Value, i: Value, mask: Value, ratio: Value, key: Value, step: Value,
    normal: Value, clip: Value, beta: Value, rest: Value, KIND: tl.constexpr, EVEN: tl.constexpr,
    CHUNK: tl.constexpr,
) -> Value:  # fmt: skip
    """Move a chunk's momenta and return the new ones, unrounded; `step` is a float."""
    u = tl.minimum(tl.maximum(ratio * normal, -clip), clip) * rest
    draws = i
    if KIND != _FLOAT32:
        draws, _ = halves(key, first, step.to(tl.int64), _PURPOSE, CHUNK)
    if KIND == _FLOAT32:
        p = pointer(address, first, tl.float32, 4, EVEN)
        m = tl.load(p + i, mask, other=0.0) * beta + u
        tl.store(p + i, m, mask)
    elif KIND == _BFLOAT16:
        p = pointer(address, first, tl.int16, 2, EVEN)
        m = load_float(p, i, mask, True) * beta + u
        tl.store(p + i, ((bits_of(m) + draws) >> 16).to(tl.int16), mask)
    elif KIND == _FOUR_BITS:
        m = _next_four(address, first, mask, u, beta, draws, CHUNK)
    else:
        p = pointer(address, first, tl.uint8, 1, EVEN)
        m = _decode(tl.load(p + i, mask, other=0).to(tl.int32), _EIGHT) * beta + u
        tl.store(p + i, _encode(m, draws, _EIGHT).to(tl.uint8), mask)
    return m
