"""`linear_codes` on a GPU: rows are decoded inside the product, no float copy of the weight exists.

A magnitude is a product of two entries of short tables, which lie in one line of the cache each. A
few rows of x are multiplied by plain arithmetic, each thread adding its own columns; from
`FEW` on a matrix product does it. Sums are in float32. In a matrix product with x in bfloat16 a
weight is the sum of two bfloat16 numbers, 2^-17 from it; otherwise it is three products of tf32.
"""

from functools import cache
from math import exp
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from rung.kernels import linear
from rung.kernels.gpu.chunks import seeded_signs, signed
from rung.kernels.gpu.jit import Value, jit, on, power_of_two
from rung.kernels.gpu.splits import bfloat16_bits
from rung.kernels.linear import Code

FEW = 5  # rows of x from here on take the matrix product
PACKED, SEEDED, IN_CODES = range(3)
MATRIX_ERROR = 2.0**-16
"""Largest relative error of a weight in the matrix product, beyond `linear.error_bound`."""

_PACKED, _IN_CODES = tl.constexpr(PACKED), tl.constexpr(IN_CODES)
_MANY, _PART, _WIDE = 16, 256, 1024  # rows and columns of a matrix product's tile; of a row's part


@cache
def _tables(code: Code, device: torch.device) -> tuple[Tensor, Tensor, int]:
    """float32 factors of the upper and of the lower bits of a magnitude's code; bits of the lower.

    An LNS's upper ones are powers of two: its products are the exact values, rounded once.
    """
    bits, gamma, eta = code
    if gamma:
        shift, last = gamma.bit_length() - 1, (1 << (bits - 1)) - 1
        octaves = last >> shift
        high = [2.0 ** (q - octaves) for q in range(octaves + 1)]
        low = [2.0 ** ((r - (last & (gamma - 1))) / gamma) for r in range(gamma)]
    else:
        shift = 4 if bits <= 8 else 8
        shift = min(shift, bits)
        high = [exp(-eta * (q << shift)) for q in range(1 << (bits - shift))]
        low = [exp(-eta * r) for r in range(1 << shift)]
    every = [torch.tensor(t, dtype=torch.float64, device="cpu").float() for t in (high, low)]
    return every[0].to(device), every[1].to(device), shift


@jit
def _weights(
    codes: Value, signs: Value, key: Value, low: Value, high: Value, row: Value, column: Value,
    block: Value, height: Value, width: Value, SIGNS: tl.constexpr, BITS: tl.constexpr,
    SHIFT: tl.constexpr, SIZE: tl.constexpr,
) -> Value:  # fmt: skip
    """Weights at a scale of 1, (SIZE,); `block` of Philox has their signs if they are seeded."""
    mask = (row < height) & (column < width)
    index = row.to(tl.int64) * width + column
    code = tl.load(codes + index, mask, other=0).to(tl.int32) & ((1 << BITS) - 1)
    if SIGNS == _IN_CODES:
        e = code & ((1 << (BITS - 1)) - 1)
        negative = e != code
    else:
        e = code
        if SIGNS == _PACKED:
            packed = tl.load(signs + index // 8, mask, other=0).to(tl.int32)
            negative = ((packed >> (index % 8).to(tl.int32)) & 1) != 0
        else:
            negative = seeded_signs(tl.load(key), block, SIZE) != 0
    value = tl.load(high + (e >> SHIFT)) * tl.load(low + (e & ((1 << SHIFT) - 1)))
    return tl.where(mask, signed(value, negative), 0.0)


@jit
def _write(p: Value, value: Value, mask: Value, NARROW: tl.constexpr) -> None:
    """Write float32, as bit patterns of bfloat16 if NARROW."""
    if NARROW:
        tl.store(p, bfloat16_bits(value), mask)
    else:
        tl.store(p, value, mask)


@jit
def _rows(
    x: Value, codes: Value, scale: Value, signs: Value, key: Value, low: Value, high: Value,
    y: Value, height: Value, width: Value, scale_step: Value, SIGNS: tl.constexpr,
    BITS: tl.constexpr, SHIFT: tl.constexpr, COLUMNS: tl.constexpr, BATCH: tl.constexpr,
    PARTS: tl.constexpr, NARROW: tl.constexpr,
) -> None:  # fmt: skip
    """One row of the weight with up to four of x."""
    row = tl.program_id(0)
    i, j = tl.arange(0, COLUMNS), tl.arange(0, COLUMNS // 128)
    a, b = tl.zeros([COLUMNS], tl.float32), tl.zeros([COLUMNS], tl.float32)
    c, d = tl.zeros([COLUMNS], tl.float32), tl.zeros([COLUMNS], tl.float32)
    # A constant: the interpreter can't count to a number that is a tensor.
    for place in range(PARTS):
        start = place * COLUMNS
        column = start + i
        block = (row.to(tl.int64) * width + start) // 128 + j
        w = _weights(
            codes, signs, key, low, high, row, column, block, height, width, SIGNS, BITS, SHIFT,
            COLUMNS,
        )  # fmt: skip
        mask = column < width
        a += tl.load(x + column, mask, other=0.0).to(tl.float32) * w
        if BATCH > 1:
            b += tl.load(x + width + column, mask, other=0.0).to(tl.float32) * w
        if BATCH > 2:
            c += tl.load(x + 2 * width + column, mask, other=0.0).to(tl.float32) * w
        if BATCH > 3:
            d += tl.load(x + 3 * width + column, mask, other=0.0).to(tl.float32) * w
    factor = tl.load(scale + row * scale_step)
    _write(y + row, tl.sum(a, 0) * factor, True, NARROW)
    if BATCH > 1:
        _write(y + height + row, tl.sum(b, 0) * factor, True, NARROW)
    if BATCH > 2:
        _write(y + 2 * height + row, tl.sum(c, 0) * factor, True, NARROW)
    if BATCH > 3:
        _write(y + 3 * height + row, tl.sum(d, 0) * factor, True, NARROW)


@jit
def _product(
    x: Value, codes: Value, scale: Value, signs: Value, key: Value, low: Value, high: Value,
    y: Value, height: Value, width: Value, scale_step: Value, batch: Value, SIGNS: tl.constexpr,
    BITS: tl.constexpr, SHIFT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    BATCH: tl.constexpr, SPLIT: tl.constexpr, PARTS: tl.constexpr,
    NARROW: tl.constexpr,
) -> None:  # fmt: skip
    """Some rows of the weight with all of x; SPLIT weights into two of x's dtype."""
    i, b = tl.arange(0, ROWS * COLUMNS), tl.arange(0, BATCH)
    # Flat tiles: a matrix's look-ups would be laid out in another order than its loads.
    row, top = tl.program_id(0) * ROWS + i // COLUMNS, tl.program_id(0) * ROWS
    j = tl.arange(0, ROWS * COLUMNS // 128)
    total = tl.zeros([BATCH, ROWS], tl.float32)
    for place in range(PARTS):
        start = place * COLUMNS
        block = ((top + j // (COLUMNS // 128)).to(tl.int64) * width + start) // 128
        w = _weights(
            codes, signs, key, low, high, row, start + i % COLUMNS, block + j % (COLUMNS // 128),
            height, width, SIGNS, BITS, SHIFT, ROWS * COLUMNS,
        )  # fmt: skip
        w = tl.trans(tl.reshape(w, [ROWS, COLUMNS]))
        column = start + tl.arange(0, COLUMNS)
        mask = (b[:, None] < batch) & (column[None, :] < width)
        part = tl.load(x + b[:, None] * width + column[None, :], mask, other=0.0)
        if SPLIT:
            upper = w.to(tl.bfloat16)
            total = tl.dot(part, (w - upper.to(tl.float32)).to(tl.bfloat16), total)
            total = tl.dot(part, upper, total)
        else:
            total = tl.dot(part.to(tl.float32), w, total, input_precision="tf32x3")
    rows = top + tl.arange(0, ROWS)
    factor = tl.load(scale + rows * scale_step, rows < height, other=0.0)
    mask = (b[:, None] < batch) & (rows[None, :] < height)
    _write(y + b[:, None] * height + rows[None, :], total * factor[None, :], mask, NARROW)


def linear_codes(
    x: Tensor, codes: Tensor, scale: Tensor, signs: Tensor, key: Tensor, *code: Any
) -> Tensor:
    """See `rung.kernels.linear`; at least one row of x, one scale or one a row."""
    height, width = codes.shape
    own, device, codes = Code(*code), codes.device, codes.contiguous()
    where = IN_CODES if own.base_factor else PACKED if signs.numel() else SEEDED
    if where == SEEDED and width % 128:  # rows begin inside a block of Philox
        return linear._linear(x, codes, scale, signs, key, *code)
    rows = x.detach().reshape(-1, width).contiguous()
    batch = rows.shape[0]
    y = torch.empty((batch, height), dtype=x.dtype, device=device)
    high, low, shift = _tables(own, device)
    narrow = x.dtype == torch.bfloat16
    split = narrow and device.type == "cuda"  # the interpreter multiplies bfloat16's bit patterns
    arguments = (
        rows, codes, scale.contiguous(), signs if signs.numel() else codes, key, low, high,
        y.view(torch.int16) if narrow else y, height, width, int(scale.numel() > 1),
    )  # fmt: skip
    with on(device):
        if batch < FEW:
            _rows[(height,)](
                *arguments,
                where,
                own.bits,
                shift,
                _WIDE,
                batch,
                -(-width // _WIDE),
                narrow,
                num_warps=4,
            )
        else:
            _product[(-(-height // _MANY),)](
                *arguments, batch, where, own.bits, shift, _MANY, _PART,
                max(16, power_of_two(batch)), split, -(-width // _PART), narrow, num_warps=4,
            )  # fmt: skip
    return y.reshape(*x.shape[:-1], height)
