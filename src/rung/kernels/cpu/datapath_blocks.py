"""The loop of `cpu.datapath` for up to eight bins that may overflow, compiled by numba.

An output's bins are one vector, and a product adds one row of a table to it: its term in its bin's
lane, zeros beside. A row's address is a number for a's code plus one for b's. Blocks of two rows
and four columns keep eight outputs' bins in registers. Products are first added as if no bin could
overflow, and the bits that tell are collected: in the order of products every bin held what it
should until one is set. The products since the last look are then added again, with bounds, and so
are those that follow: where one overflows, more do.

Importing this imports numba.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.datapath_lanes import (
    any_left,
    bits_of_either,
    bounded,
    count_events,
    nothing,
    plus,
    read_bins,
    read_move,
    remembered,
    wrapped,
    write_bins,
)
from rung.kernels.cpu.jit import inlined, jit, lane

_i64, _f64 = np.int64, np.float64
ROWS, COLUMNS, BINS = 2, 4, 8
TRUSTED = 128  # products that are first added without bounds
GROUP = 16  # products: as many as two bits of each fit a float32's
OUTPUTS = ROWS * COLUMNS


@jit
def pack(codes: Any, moves: Any, packed: Any) -> None:
    """Set numbers of a block's rows or columns, (n, K', count), from uint8 codes (n count, K).

    Args:
        codes: Of rows, or of columns: their last block may lack some.
        moves: int32 (256,), by code.
        packed: int32; is left as it is where there is no code.
    """
    rows, depth = codes.shape
    count = packed.shape[2]
    for row in range(rows):
        for k in range(depth):
            packed[row // count, k, row % count] = moves[codes[row, k]]


@jit
def blocks(
    a: Any, b: Any, table: Any, ends: Any, numbers: Any, constants: Any, wraps: Any, places: Any,
    asked: Any, totals: Any, overflows: Any, bins: Any, counts: Any, begin: Any, end: Any,
) -> None:  # fmt: skip
    """Add a partial sum to blocks begin ... end - 1.

    Args:
        a: int32 (M / 2, K, 2), K a multiple of 16: bytes that codes move a row's address by.
        b: int32 (N / 4, K, 4), likewise.
        table: Rows of eight numbers, float32 or float64.
        ends: Of table's type, (2, 8): a bin's largest content, and that of an empty one.
        numbers: int64: 2^(accumulator_bits - 1), dropped_bits, guard_bits.
        constants: int64 (8,), 0 for bins that aren't there.
        wraps: None, or an integer: whether bins wrap around.
        places: int64 (n, 2): pair of rows and four of columns of blocks.
        asked: bool (M, N): outputs to be added to.
        totals: int64 (M, N).
        overflows: Likewise.
        bins: Scratch of table's type, (8, 8).
        counts: Scratch of integers of that size, (8, 8).
        begin: First block.
        end: Behind the last.
    """
    size, depth = table.itemsize * BINS, a.shape[1]
    for place in range(begin, end):
        i, j = places[place, 0], places[place, 1]
        counts[:] = 0
        _block(
            a.ctypes.data + 4 * ROWS * i * depth, b.ctypes.data + 4 * COLUMNS * j * depth, depth,
            table.ctypes.data, ends.ctypes.data, ends.dtype.type(0), size, wraps, bins.ctypes.data,
            counts.ctypes.data,
        )  # fmt: skip
        for output in range(OUTPUTS):
            row, column = ROWS * i + output // COLUMNS, COLUMNS * j + output % COLUMNS
            if row < asked.shape[0] and column < asked.shape[1] and asked[row, column]:
                total, count = _i64(0), _i64(0)
                for index in range(BINS):
                    # Twice a bin's content, and 1 that an empty bin begins with.
                    content = _i64(_f64(bins[output, index]) * _f64(numbers[0]))
                    total += ((content - _i64(1)) >> _i64(1)) * constants[index]
                    count += _i64(counts[output, index])
                totals[row, column] += (total << numbers[1]) >> numbers[2]
                overflows[row, column] += count


@inlined
def _block(
    a: Any, b: Any, depth: Any, table: Any, ends: Any, like: Any, size: Any, wraps: Any, bins: Any,
    counts: Any,
) -> None:  # fmt: skip
    """Eight outputs: their bins, and how often each was left."""
    limit, p = read_bins(ends, like), read_bins(ends + size, like)
    q, r, s, t, u, v, w = p, p, p, p, p, p, p
    top, left = 0, False
    while top < depth and not left:
        last = min(depth, top + TRUSTED)
        e, f, g, h, k, l, m, n, left = _trusted(  # noqa: E741
            a, b, table, like, top, last, p, q, r, s, t, u, v, w
        )
        if not left:
            p, q, r, s, t, u, v, w = e, f, g, h, k, l, m, n
            top = last
    for begin in range(top, depth, GROUP):
        zero = nothing(limit)
        e, f, g, h, k, l, m, n = zero, zero, zero, zero, zero, zero, zero, zero  # noqa: E741
        for step in range(begin, begin + GROUP):
            x, y = table + read_move(a + 8 * step), table + read_move(a + 8 * step + 4)
            at = b + 16 * step
            c, d = read_move(at), read_move(at + 4)
            p, e = _one(p, e, x + c, limit, wraps, like)
            q, f = _one(q, f, x + d, limit, wraps, like)
            t, k = _one(t, k, y + c, limit, wraps, like)
            u, l = _one(u, l, y + d, limit, wraps, like)  # noqa: E741
            c, d = read_move(at + 8), read_move(at + 12)
            r, g = _one(r, g, x + c, limit, wraps, like)
            s, h = _one(s, h, x + d, limit, wraps, like)
            v, m = _one(v, m, y + c, limit, wraps, like)
            w, n = _one(w, n, y + d, limit, wraps, like)
        _each(count_events, counts, size, e, f, g, h, k, l, m, n)
    _each(write_bins, bins, size, p, q, r, s, t, u, v, w)


@inlined
def _each(
    store: Any, place: Any, size: Any, p: Any, q: Any, r: Any, s: Any, t: Any, u: Any, v: Any,
    w: Any,
) -> None:  # fmt: skip
    """Store eight vectors, one after the other."""
    store(place, p)
    store(place + size, q)
    store(place + 2 * size, r)
    store(place + 3 * size, s)
    store(place + 4 * size, t)
    store(place + 5 * size, u)
    store(place + 6 * size, v)
    store(place + 7 * size, w)


@inlined
def _trusted(
    a: Any, b: Any, table: Any, like: Any, top: Any, last: Any, p: Any, q: Any, r: Any, s: Any,
    t: Any, u: Any, v: Any, w: Any,
) -> Any:  # fmt: skip
    """Eight outputs' bins after products top ... last - 1 without bounds; whether one was left."""
    # Two collections: of one alone every `bits_of_either` would wait for the one before.
    found = nothing(p)
    others = found
    for step in range(top, last):
        x, y = table + read_move(a + 8 * step), table + read_move(a + 8 * step + 4)
        at = b + 16 * step
        c, d = read_move(at), read_move(at + 4)
        p, q, found = _two(p, q, x + c, x + d, found, like)
        t, u, others = _two(t, u, y + c, y + d, others, like)
        c, d = read_move(at + 8), read_move(at + 12)
        r, s, found = _two(r, s, x + c, x + d, found, like)
        v, w, others = _two(v, w, y + c, y + d, others, like)
    return p, q, r, s, t, u, v, w, any_left(bits_of_either(found, others, others))


@lane
def _two(first: Any, second: Any, one: Any, other: Any, found: Any, like: Any) -> Any:
    """Two outputs' bins with another product each, and the bits of all sums so far."""
    first, second = plus(first, read_bins(one, like)), plus(second, read_bins(other, like))
    return first, second, bits_of_either(found, first, second)


@lane
def _one(bins: Any, history: Any, row: Any, limit: Any, wraps: Any, like: Any) -> Any:
    """An output's bins with another product, within their range, and a history of what left it."""
    wanted = plus(bins, read_bins(row, like))
    history = remembered(history, wanted)
    if wraps is None:
        return bounded(wanted, limit), history
    return wrapped(wanted), history
