"""The loop of `cpu.datapath` where no bin can overflow, compiled by numba.

The order of additions then doesn't matter, and a sum of products is one of float64, exact below
2^53. The datapath's arithmetic then has a structure that fused multiply-adds
can use: with e_a = gamma q_a + r_a a product is 2^q_a times a number that depends on r_a and e_b
only. For each r_a a plane of these numbers is made from a tile of b; a product of eight columns is
then one instruction.
"""

from typing import Any

import numba
import numpy as np

from rung.kernels.cpu.double_lanes import (
    bytes_from,
    fma_doubles,
    kept_first,
    kept_fourth,
    kept_second,
    kept_third,
    read_doubles,
    splat_double,
    write_doubles,
)
from rung.kernels.cpu.jit import inlined, inner, jit, lane
from rung.kernels.cpu.memory_lanes import pointer

_f64, _i32, _u8 = np.float64, np.int32, np.uint8
COLUMNS, DEPTH = 32, 16  # of a tile of b: its planes for gamma = 8 fill half of the first cache


@lane
def _four(planes: Any, factor: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """32 columns' sums with another product each."""
    x = splat_double(factor)
    return (
        fma_doubles(read_doubles(planes), x, a),
        fma_doubles(read_doubles(planes + 64), x, b),
        fma_doubles(read_doubles(planes + 128), x, c),
        fma_doubles(read_doubles(planes + 192), x, d),
    )


@inner
def _planes(
    planes: Any, codes: Any, columns: Any, depth: Any, values: Any, gamma: Any
) -> None:  # fmt: skip
    """Planes of a tile of b, `values` of its signed codes after each remainder of a's.

    Args:
        planes: Address of gamma x DEPTH x COLUMNS float64.
        codes: Address of the tile's first code, uint8.
        columns: Bytes from one row of codes to the next.
        depth: Rows of the tile.
        values: float64 (gamma, 256): signed, by remainder of a and code of b.
        gamma: Codes an octave.
    """
    room = numba.carray(pointer(planes, _f64(0)), (gamma, DEPTH, COLUMNS))
    for k in range(depth):
        row = numba.carray(pointer(codes + k * columns, _u8(0)), COLUMNS)
        for remainder in range(gamma):
            for j in range(COLUMNS):
                room[remainder, k, j] = values[remainder, row[j]]


@jit
def exact(
    a: Any, b: Any, exponents: Any, values: Any, factors: Any, remainders: Any, least: Any,
    drops: Any, sums: Any, planes: Any, begin: Any, end: Any,
) -> None:  # fmt: skip
    """Add the products of columns 32 begin ... 32 end - 1 to `sums`, if no bin overflows.

    Args:
        a: Codes, uint8 (M, K).
        b: Codes, uint8 (K, N), N a multiple of 32.
        exponents: b without signs.
        values: Of `_planes`.
        factors: float64 (256,): sign times 2^q of a's codes.
        remainders: int64 (256,): bytes from the first plane to that of a's codes.
        least: int32 (256,): exponents of b that are lower reach no bin, by code of a.
        drops: None, or an integer: whether there are any such.
        sums: float64 (M, N).
        planes: Address of scratch memory, see `_planes`.
        begin: First tile of columns.
        end: Behind the last.
    """
    rows, depth = a.shape
    width = b.shape[1]
    gamma = values.shape[0]
    for tile in range(begin, end):
        for top in range(0, depth, DEPTH):
            count = min(DEPTH, depth - top)
            corner = top * width + COLUMNS * tile
            _planes(planes, b.ctypes.data + corner, width, count, values, gamma)
            below = exponents.ctypes.data + corner
            for i in range(rows):
                _row(
                    a.ctypes.data + i * depth + top, count, planes, below, width,
                    factors.ctypes.data, remainders, least, drops,
                    sums.ctypes.data + 8 * (i * width + COLUMNS * tile),
                )  # fmt: skip


@inlined
def _row(
    codes: Any, count: Any, planes: Any, below: Any, width: Any, factors: Any, remainders: Any,
    least: Any, drops: Any, sums: Any,
) -> None:  # fmt: skip
    """One row of a times a tile of b."""
    a, b = read_doubles(sums), read_doubles(sums + 64)
    c, d = read_doubles(sums + 128), read_doubles(sums + 192)
    own = numba.carray(pointer(codes, _u8(0)), count)
    for k in range(count):
        code = own[k]
        place = planes + remainders[code] + 8 * COLUMNS * k
        p, q, r, s = _four(place, factors + 8 * code, a, b, c, d)
        if drops is None:
            a, b, c, d = p, q, r, s
        else:
            line = bytes_from(below + k * width, least[code])
            a, b = kept_first(line, p, a), kept_second(line, q, b)
            c, d = kept_third(line, r, c), kept_fourth(line, s, d)
    write_doubles(sums, a)
    write_doubles(sums + 64, b)
    write_doubles(sums + 128, c)
    write_doubles(sums + 192, d)
