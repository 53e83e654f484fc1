"""Momenta in their storages: read, advance, round, write: `rung.kernels.momentum`."""

import triton.language as tl

from rung.kernels import momentum, philox
from rung.kernels.gpu.chunks import bits_of, float_of, halves, load_float, pointer
from rung.kernels.gpu.jit import Value, jit

NONE = -1
"""A kind beside those of `moments.KINDS`: there is no momentum."""

_FLOAT32, _BFLOAT16 = tl.constexpr(0), tl.constexpr(1)
_PURPOSE = tl.constexpr(philox.PURPOSE_MOMENTUM)
_SIGN, _LARGEST = tl.constexpr(momentum.SIGN), tl.constexpr(momentum.LARGEST)
_SMALLEST, _LOWEST = tl.constexpr(momentum.SMALLEST), tl.constexpr(momentum.LOWEST)
_FRACTION = tl.constexpr(momentum.FRACTION)


@jit
def _decode(stored: Value) -> Value:
    """float32 values of int32 codes."""
    code = stored & (_SIGN - 1)
    value = float_of((code + (_LOWEST - 8)) << _FRACTION)
    even = float_of((code + _LOWEST) << _FRACTION) - _SMALLEST
    value = tl.where(code < 8, even, value)
    return tl.where(stored >= _SIGN, -value, value)


@jit
def _encode(m: Value, draws: Value) -> Value:
    """int32 codes of float32 values, one of the two neighbours."""
    size = tl.abs(m)
    low = size < _SMALLEST
    bits = bits_of(tl.where(low, size + _SMALLEST, size)) + (draws << (_FRACTION - 16))
    code = (bits >> _FRACTION) - tl.where(low, _LOWEST, _LOWEST - 8)
    return tl.minimum(code, _LARGEST) | tl.where(m < 0, _SIGN, 0)


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
    else:
        p = pointer(address, first, tl.uint8, 1, EVEN)
        m = _decode(tl.load(p + i, mask, other=0).to(tl.int32)) * beta + u
        tl.store(p + i, _encode(m, draws).to(tl.uint8), mask)
    return m
