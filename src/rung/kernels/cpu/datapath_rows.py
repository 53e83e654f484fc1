"""Outputs of `cpu.datapath` whose bins may overflow: tables and calls of `datapath_blocks`."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rung.kernels.cpu import datapath_blocks as loop
from rung.kernels.cpu import threads
from rung.kernels.datapath import Design, tables

# Multiply-accumulates that are worth a thread.
_GRAIN = 2**22
# Widest bins of which float32 and float64 hold every content, and a half beside.
_SINGLE, _DOUBLE = 24, 50


class Rows(NamedTuple):
    """See `datapath_blocks.blocks`; `moves` is by code, `empty` leads to a row of zeros."""

    table: NDArray[np.floating]
    ends: NDArray[np.floating]
    constants: NDArray[np.int64]
    moves: NDArray[np.int32]
    empty: int


@lru_cache(maxsize=64)
def rows_of(design: Design) -> Rows | None:
    """None where bins are too many or too wide, or codes are."""
    width, bins = design.accumulator_bits, design.table_size
    if design.bits > 8 or bins > loop.BINS or width > _DOUBLE:
        return None
    # What leaves a bin by much need not be exact to be bounded; what wraps around must.
    dtype = np.dtype(np.float32 if width <= _SINGLE and not design.wraps else np.float64)
    sizes, index, constants = (table.numpy() for table in tables(design))
    half = 2.0 ** (width - 1)
    # Exponents that stand for 0 lie far below all others: the rows of their sums are empty.
    lift = design.last + 1 if design.zero else 0
    sums = 2 * (design.last + lift) + 1
    every = np.arange(2 if design.zero else 0, len(sizes))
    terms = np.zeros((sums, loop.BINS))
    terms[every + 2 * lift, index[every]] = sizes[every] * (2 / half)
    codes = np.arange(256)
    exponents = codes & design.last
    lifted = exponents + lift * (exponents > 0)
    negative = (codes >> (design.bits - 1)) & 1
    # Of a negative code the next third: two of them lead to the last, which is the first.
    table = _aligned(np.concatenate([terms, -terms, terms, np.zeros((1, loop.BINS))]), dtype)
    bytes_ = table[0].nbytes
    return Rows(
        table,
        np.array([[2 - 1 / half], [1 / half]]).repeat(loop.BINS, 1).astype(dtype),
        np.concatenate([constants, np.zeros(loop.BINS - bins, np.int64)]),
        ((lifted + sums * negative) * bytes_).astype(np.int32),
        3 * sums * bytes_,
    )


def _aligned(values: NDArray[np.float64], dtype: Any) -> NDArray[np.floating]:
    """A copy whose rows don't cross cache lines."""
    room = np.empty(values.size * dtype.itemsize + 64, np.uint8)
    begin = -room.ctypes.data % 64
    inner: NDArray[np.floating] = room[begin : len(room) - 64 + begin].view(dtype)
    copy = inner.reshape(values.shape)
    copy[:] = values
    return copy


def add(
    a: Tensor, b: Tensor, rows: Rows, design: Design, wanted: Tensor | None, total: Tensor,
    overflows: Tensor,
) -> None:  # fmt: skip
    """One partial sum of the outputs that are `wanted`; of all if it is None."""
    ours = _packed(a, rows.moves, loop.ROWS, rows.empty)
    theirs = _packed(b.T, rows.moves, loop.COLUMNS, 0)
    asked = np.ones(total.shape, np.bool_) if wanted is None else wanted.numpy()
    places = _blocks(asked)
    numbers = np.array(
        [1 << (design.accumulator_bits - 1), design.dropped_bits, design.guard_bits], np.int64
    )
    fixed = (ours, theirs, rows.table, rows.ends, numbers, rows.constants)
    wraps = 1 if design.wraps else None
    shape, kind = (loop.OUTPUTS, loop.BINS), rows.table.dtype

    def work(begin: int, end: int) -> None:
        scratch = np.empty(shape, kind), np.empty(shape, f"i{kind.itemsize}")
        results = total.numpy(), overflows.numpy()
        loop.blocks(*fixed, wraps, places, asked, *results, *scratch, begin, end)

    grain = max(1, _GRAIN // (a.shape[1] * loop.OUTPUTS))
    threads.run(work, threads.split(len(places), grain=grain))


def _packed(codes: Tensor, moves: NDArray[np.int32], count: int, empty: int) -> NDArray[np.int32]:
    """(n, K) -> (n / count, K, count), both rounded up, the products that this adds `empty`."""
    rows, depth = codes.shape
    shape = (-(-rows // count), -(-depth // loop.GROUP) * loop.GROUP, count)
    packed = np.zeros(shape, np.int32)
    packed[:, depth:] = empty
    loop.pack(codes.contiguous().numpy(), moves, packed)
    return packed


def _blocks(asked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Blocks with an output that is asked for: four columns after four, which stay in a cache."""
    rows, columns = asked.shape
    shape = (-(-rows // loop.ROWS), loop.ROWS, -(-columns // loop.COLUMNS), loop.COLUMNS)
    padded = np.zeros((shape[0] * loop.ROWS, shape[2] * loop.COLUMNS), np.bool_)
    padded[:rows, :columns] = asked
    places = np.argwhere(padded.reshape(shape).any(axis=(1, 3)).T)
    return np.ascontiguousarray(places[:, ::-1])
