"""The loops of `linear`, compiled by numba: codes become floats sixteen at a time, in registers.

How a code becomes a value is in `linear_lanes`. Eight rows are taken at a time, and so many columns
that their values stay in the first cache level while they are multiplied. Every sum runs over the
columns i mod 16 in order, then over the sixteen: one order for every batch size and number of
threads.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.float32_math import use_widest_vectors
from rung.kernels.cpu.jit import jit
from rung.kernels.cpu.linear_lanes import TILE, decode_steps
from rung.kernels.cpu.linear_tiles import add_tile, multiply_codes, multiply_tile
from rung.kernels.cpu.memory_lanes import load, store
from rung.kernels.cpu.simd import splat, sum_lanes
from rung.kernels.philox import PURPOSE_SIGN

ROWS, BLOCK = 8, 512  # rows of the weight and columns at a time

_u64, _i32, _f32 = np.uint64, np.int32, np.float32
_M0, _M1 = _u64(0xD2511F53), _u64(0xCD9E8D57)
_W0, _W1 = _u64(0x9E3779B9), _u64(0xBB67AE85)
_MASK, _WORD = _u64(0xFFFFFFFF), _u64(32)
_PURPOSE = _u64(PURPOSE_SIGN)


@jit
def _round(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    product0, product1 = _M0 * (c0 & _MASK), _M1 * (c2 & _MASK)
    return (product1 >> _WORD) ^ c1 ^ k0, product1, (product0 >> _WORD) ^ c3 ^ k1, product0


@jit
def sign_stream(out: Any, key: Any, first_block: Any) -> None:
    """Blocks of the stream of signs, see `rung.kernels.signs`: two uint64 each."""
    use_widest_vectors()
    key1 = key >> _WORD
    # Two blocks side by side: one's long chain of products leaves the processor waiting.
    half = out.size // 4
    for lane in range(half):
        a, b = first_block + _u64(lane), first_block + _u64(lane + half)
        a0, a1, a2, a3 = a, a >> _WORD, _u64(0), _PURPOSE
        b0, b1, b2, b3 = b, b >> _WORD, _u64(0), _PURPOSE
        k0, k1 = key, key1
        for _ in range(10):
            a0, a1, a2, a3 = _round(a0, a1, a2, a3, k0, k1)
            b0, b1, b2, b3 = _round(b0, b1, b2, b3, k0, k1)
            k0, k1 = k0 + _W0, k1 + _W1
        out[2 * lane] = (a0 & _MASK) | (a1 << _WORD)
        out[2 * lane + 1] = (a2 & _MASK) | (a3 << _WORD)
        out[2 * (lane + half)] = (b0 & _MASK) | (b1 << _WORD)
        out[2 * (lane + half) + 1] = (b2 & _MASK) | (b3 << _WORD)


@jit
def sign_words(
    signs: Any, key: Any, start: Any, width: Any, rows: Any, per: Any, raw: Any, words: Any
) -> None:
    """Signs of whole rows, each from a uint16 of its own on.

    Args:
        signs: Packed, or empty if they come from the key.
        key: uint64.
        start: Flat index of the first.
        width: Of a row.
        rows: How many.
        per: Words a row, ceil(width / 16).
        raw: uint64 scratch: four for every 256 signs, and sixteen.
        words: Result, uint16; sixteen more than rows * per.
    """
    stored, halves = raw.view(np.uint8), raw.view(np.uint16)
    if signs.size:
        first = start >> 3
        count = min((start + rows * width + 7) >> 3, signs.size) - first
        for i in range(0, count - 15, 16):
            store(stored, i, load(signs, first + i))
        for i in range(count & ~15, count):
            stored[i] = signs[first + i]
    else:
        first = (start >> 7) << 4
        sign_stream(raw, key, _u64(start >> 7))
    for row in range(rows):
        bit = start + row * width - (first << 3)
        place, shift = bit >> 3, bit & 7
        if bit & 15 == 0:
            for i in range(0, per, 16):  # what is too much, the next row writes over
                store(words, row * per + i, load(halves, (bit >> 4) + i))
        else:
            for i in range(per):
                at = place + 2 * i
                low = _i32(stored[at]) | (_i32(stored[at + 1]) << 8)
                words[row * per + i] = np.uint16((low | (_i32(stored[at + 2]) << 16)) >> shift)


@jit
def rows_of(codes: Any, begin: Any, rows: Any, width: Any) -> Any:
    """An array and the place in it of a tile's codes, eight rows and sixteen codes more."""
    if begin + ROWS * width + 16 <= codes.size:
        return codes, begin
    copied = np.zeros(ROWS * width + 16, codes.dtype)
    for i in range(rows * width):
        copied[i] = codes[begin + i]
    return copied, 0


@jit
def multiply_rows(
    codes: Any, tables: Any, words: Any, begin: Any, width: Any, rows: Any, x: Any, batch: Any,
    values: Any, sums: Any,
) -> None:  # fmt: skip
    """Sums of up to eight rows of codes times every row of x, into `sums`."""
    per = (width + 15) >> 4
    for i in range(0, sums.size, 16):
        store(sums, i, splat(_f32(0)))
    for left in range(0, per, BLOCK // 16):
        steps = min(BLOCK // 16, per - left)
        for row in range(rows):
            at, to = begin + row * width + left * 16, row // TILE * TILE * BLOCK + row % TILE * 16
            decode_steps(codes, tables, words, at, row * per + left, steps, values, to)
        for group in range((batch + TILE - 1) // TILE):
            place = (group * per + left) * TILE * 16
            for four in range(0, rows, TILE):
                to = (group * ROWS + four) * TILE * 16
                multiply_tile(values, four * BLOCK, x, place, steps, sums, to)


@jit
def products(
    codes: Any, signs: Any, key: Any, tables: Any, words: Any, raw: Any, scales: Any, x: Any,
    batch: Any, width: Any, scratch: Any, out: Any, top: Any, bottom: Any,
) -> None:  # fmt: skip
    """Rows top ... bottom - 1 of the weight times every row of x.

    Args:
        codes: Of the whole weight, flat.
        signs: Packed, uint8; empty if they come from the key or the codes.
        key: uint64.
        tables: See `linear_lanes`.
        words: uint16 scratch for the signs of eight rows, each from a word on; None where codes
            hold them.
        raw: uint64 scratch, see `sign_words`.
        scales: float32, one a row.
        x: float32: one row, filled up with zeros to a multiple of 16; or in the order (four rows,
            sixteen columns, row, column).
        batch: Rows of x.
        width: Columns of the weight.
        scratch: float32 for values and sums.
        out: float32, flat (batch, rows).
        top: First row.
        bottom: Row after the last.
    """
    per = (width + 15) >> 4
    values, sums = scratch[: ROWS * BLOCK], scratch[ROWS * BLOCK :]
    for tile in range(top, bottom, ROWS):
        rows = min(ROWS, bottom - tile)
        if words is not None:
            sign_words(signs, key, tile * width, width, rows, per, raw, words)
        source, begin = rows_of(codes, tile * width, rows, width)
        if batch == 1:
            for four in range(0, rows, TILE):
                multiply_codes(
                    source, tables, words, begin + four * width, four * per, per, x, width,
                    sums, four * 16,
                )  # fmt: skip
            for row in range(rows):
                out[tile + row] = sum_lanes(load(sums, row * 16)) * scales[tile + row]
        else:
            multiply_rows(source, tables, words, begin, width, rows, x, batch, values, sums)
            for b in range(batch):
                for row in range(rows):
                    at = ((b // TILE * ROWS + row) * TILE + b % TILE) * 16
                    total = sum_lanes(load(sums, at))
                    out[b * scales.size + tile + row] = total * scales[tile + row]


@jit
def products_of_grad(
    codes: Any, signs: Any, key: Any, tables: Any, words: Any, raw: Any, grad: Any, batch: Any,
    height: Any, width: Any, values: Any, out: Any, start: Any, stop: Any,
) -> None:  # fmt: skip
    """Columns start ... stop - 1 of grad times the weight, both multiples of 16.

    Args:
        codes: These five and `raw` are those of `products`.
        signs: Packed, or empty.
        key: uint64.
        tables: Factors.
        words: Scratch, or None.
        raw: Scratch.
        grad: float32, flat (batch, height up to a multiple of eight): times the rows' scales,
            filled up with zeros.
        batch: Rows of grad, even.
        height: Rows of the weight.
        width: Columns of the weight.
        values: float32 scratch, finite.
        out: float32, flat (batch, width up to a multiple of 16), zeros; the sums.
        start: First column.
        stop: Column after the last.
    """
    per, stride = (width + 15) >> 4, (height + ROWS - 1) // ROWS * ROWS
    for tile in range(0, height, ROWS):
        rows = min(ROWS, height - tile)
        if words is not None:
            sign_words(signs, key, tile * width, width, rows, per, raw, words)
        source, begin = rows_of(codes, tile * width, rows, width)
        for left in range(start >> 4, stop >> 4, BLOCK // 16):
            steps = min(BLOCK // 16, (stop >> 4) - left)
            for row in range(rows):
                at, to = (
                    begin + row * width + left * 16,
                    row // TILE * TILE * BLOCK + row % TILE * 16,
                )
                decode_steps(source, tables, words, at, row * per + left, steps, values, to)
            for b in range(0, batch, 2):
                place = (b * per + left) * 16
                add_tile(
                    values, 0, TILE * BLOCK, grad, b * stride + tile, stride, steps,
                    out, place, place + per * 16,
                )  # fmt: skip
