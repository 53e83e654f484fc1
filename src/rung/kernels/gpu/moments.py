"""Second moments in their storages: read, advance, round, write; and the scales of log codes."""

from collections.abc import Sequence
from functools import cache

import torch
import triton.language as tl
from torch import Tensor

from rung.kernels import inverse_root, philox
from rung.kernels.gpu import lists
from rung.kernels.gpu.chunks import (
    bits_of,
    find,
    float_of,
    halves,
    load_float,
    pointer,
)
from rung.kernels.gpu.jit import EXACT, Value, jit, on
from rung.kernels.moment import log8_tables

FLOAT32, BFLOAT16, LOG8 = range(3)
KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16, torch.uint8: LOG8}

# The first columns of every step's numbers.
BETA, REST, SCALE, INVERSE = range(4)

_FLOAT32, _BFLOAT16 = tl.constexpr(FLOAT32), tl.constexpr(BFLOAT16)
_SCALE, _INVERSE = tl.constexpr(SCALE), tl.constexpr(INVERSE)
_PURPOSE = tl.constexpr(philox.PURPOSE_MOMENT)
_MAGIC = tl.constexpr(inverse_root.MAGIC)
_FIRST, _SECOND = tl.constexpr(inverse_root.FIRST), tl.constexpr(inverse_root.SECOND)
_TOP = tl.constexpr(255)
_FRACTION, _ONE = tl.constexpr(0x7FFFFF), tl.constexpr(0x3F800000)
_ROWS = tl.constexpr(128)


@cache
def tables(device: torch.device) -> Tensor:
    """`moment.log8_tables` as float32 (4, 16) on a device."""
    return torch.tensor(log8_tables(), dtype=torch.float32, device="cpu").to(device)


@jit
def noise(key: Value, first: Value, time: Value, CHUNK: tl.constexpr) -> Value:
    """16-bit random numbers of a chunk, for moments and for moves; `time` is the step, a float."""
    return halves(key, first, time.to(tl.int64), _PURPOSE, CHUNK)


@jit
def ratio(grad: Value, v: Value) -> Value:
    """The gradient times `inverse_root.unscaled` of v."""
    # The interpreter has no constant minus a tensor.
    y = float_of(-(bits_of(v) >> 1) + _MAGIC)
    y = y * (-(v * y) * y + _FIRST)
    return grad * (y * (-(v * y) * y + _SECOND))


@jit
def decode_log8(code: Value, scale: Value, log8: Value) -> Value:
    """float32 values of int32 codes."""
    above = code + 1
    power = bits_of(tl.load(log8 + (above & 7))) + (((above >> 3) - 32) << 23)
    return tl.where(code > 0, float_of(power) * scale, 0.0)


@jit
def round_log8(v: Value, inverse: Value, draws: Value, log8: Value) -> Value:
    """int32 codes of float32 values, one of the two neighbours; `draws` of `noise`."""
    bits = bits_of(v * inverse)
    mantissa = float_of((bits & _FRACTION) | _ONE)
    sector = (bits >> 19) & 15
    rung = tl.load(log8 + 48 + sector).to(tl.int32)
    rung += (mantissa >= tl.load(log8 + 16 + sector)).to(tl.int32)
    odds = (mantissa - tl.load(log8 + rung)) * tl.load(log8 + 32 + rung)
    uniform = (draws.to(tl.float32) + 0.5) * 0.0000152587890625
    below = (((bits >> 23) - 127) << 3) + rung + _TOP
    code = below + (uniform < odds).to(tl.int32)
    return tl.where(v > 0, tl.minimum(tl.maximum(code, 1), _TOP), 0)


@jit
def advance(
    address: Value, first: Value, i: Value, mask: Value, grad: Value, draws: Value,
    numbers: Value, log8: Value, KIND: tl.constexpr, EVEN: tl.constexpr,
) -> Value:  # fmt: skip
    """Move a chunk's moments and return the new ones, unrounded."""
    beta, rest = tl.load(numbers), tl.load(numbers + 1)
    if KIND == _FLOAT32:
        p = pointer(address, first, tl.float32, 4, EVEN)
        v = tl.load(p + i, mask, other=0.0) * beta + (grad * grad) * rest
        tl.store(p + i, v, mask)
    elif KIND == _BFLOAT16:
        p = pointer(address, first, tl.int16, 2, EVEN)
        v = load_float(p, i, mask, True) * beta + (grad * grad) * rest
        # Adding 16 random bits carries into the kept half with the odds of the dropped one.
        tl.store(p + i, ((bits_of(v) + draws) >> 16).to(tl.int16), mask)
    else:
        p = pointer(address, first, tl.uint8, 1, EVEN)
        old = tl.load(p + i, mask, other=0).to(tl.int32)
        v = decode_log8(old, tl.load(numbers + _SCALE), log8) * beta + (grad * grad) * rest
        code = round_log8(v, tl.load(numbers + _INVERSE), draws, log8)
        tl.store(p + i, code.to(tl.uint8), mask)
    return v


@jit
def _largest(
    places: Value, owners: Value, found: Value, NARROW: tl.constexpr, EVEN: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:  # fmt: skip
    """Bits of the largest gradient and the largest code of each tensor, by atomic maxima."""
    row, at, first, left = find(places, owners, 5, EVEN, CHUNK)
    i = tl.arange(0, CHUNK)
    mask = i < left
    if NARROW:
        g = load_float(pointer(tl.load(at + 2), first, tl.int16, 2, EVEN), i, mask, True)
    else:
        g = load_float(pointer(tl.load(at + 2), first, tl.float32, 4, EVEN), i, mask, False)
    codes = tl.load(pointer(tl.load(at + 3), first, tl.uint8, 1, EVEN) + i, mask, other=0)
    # Bits of floats that are not negative are in the floats' order.
    tl.atomic_max(found + 2 * row, tl.max(bits_of(tl.abs(g)), 0))
    tl.atomic_max(found + 2 * row + 1, tl.max(codes.to(tl.int32), 0))


@jit
def _rescale(
    places: Value, found: Value, numbers: Value, log8: Value, count: Value, COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:  # fmt: skip
    """`moment.next_log8_scale` of every tensor: old scale and 1 / new one into the numbers."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = row < count
    there = there & (tl.load(places + row * 5 + 1, there, other=0) > 0)
    address = tl.load(places + row * 5 + 4, there, other=0).to(tl.pointer_type(tl.float32))
    old = tl.load(address, there, other=1.0)
    code = tl.load(found + 2 * row + 1, there, other=0)
    g = float_of(tl.load(found + 2 * row, there, other=0))
    own = numbers + row * COLUMNS
    beta, rest = tl.load(own, there, other=0.0), tl.load(own + 1, there, other=0.0)
    bound = beta * decode_log8(code, old, log8) + rest * (g * g)
    exponent = (bits_of(bound) + _FRACTION) >> 23
    exponent = tl.minimum(tl.maximum(exponent, 1), 254)
    exponent = tl.where(bound > 0, exponent, 127)
    # 1 / 2^127 is a subnormal number.
    inverse = tl.where(exponent == 254, 1 << 22, (254 - exponent) << 23)
    tl.store(own + _SCALE, old, there)
    tl.store(own + _INVERSE, float_of(inverse), there)
    tl.store(address, float_of(exponent << 23), there)


def rescale(
    stored: Sequence[Tensor], scales: Sequence[Tensor], grads: Sequence[Tensor], numbers: Tensor
) -> None:
    """New scales of log codes into `scales`; what a step needs into columns `SCALE`, `INVERSE`.

    Args:
        stored: uint8 codes.
        scales: float32, 0-d, on the codes' device.
        grads: Of `lists.dense`.
        numbers: float32 (tensors, columns), `BETA` and `REST` filled.
    """
    device = stored[0].device
    found = torch.zeros((len(stored), 2), dtype=torch.int32, device=device)
    kinds = [(g.dtype == torch.bfloat16, lists.even(g, v))
             for g, v in zip(grads, stored, strict=True)]  # fmt: skip
    rows = [(g.data_ptr(), v.data_ptr(), s.data_ptr())
            for g, v, s in zip(grads, stored, scales, strict=True)]  # fmt: skip
    every = [v.numel() for v in stored]
    with on(device):
        for kind in dict.fromkeys(kinds):
            # Those of other kinds have no chunks here; the rows stay where they are.
            counts = [n if own == kind else 0 for n, own in zip(every, kinds, strict=True)]
            table = lists.table_of(counts, rows, device)
            if table.chunks:
                _largest[(table.chunks,)](
                    table.places, table.owners, found, *kind, lists.CHUNK, **EXACT
                )
        table = lists.table_of(every, rows, device)
        _rescale[(-(-len(stored) // 128),)](
            table.places, found, numbers, tables(device), len(stored), numbers.shape[1], _ROWS,
            **EXACT,
        )  # fmt: skip
