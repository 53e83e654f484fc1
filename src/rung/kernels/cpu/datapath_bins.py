"""The loops of `cpu.datapath` where bins may overflow: bin by bin, in the order of products.

Importing this imports numba.
"""

from typing import Any

import numba
import numpy as np

from rung.kernels.cpu.jit import inlined, jit, lane
from rung.kernels.cpu.memory_lanes import pointer, read, write
from rung.kernels.cpu.rung_lanes import gather
from rung.kernels.cpu.simd import select, splat

_i32, _u8, _i64 = np.int32, np.uint8, np.int64
COLUMNS = 16  # of a tile
WIDEST = 28  # accumulator bits up to which sums of int32 hold what a bin can't


@jit
def tiles(
    a: Any, b: Any, numbers: Any, sizes: Any, constants: Any, wraps: Any, zero: Any, places: Any,
    totals: Any, overflows: Any, scratch: Any, begin: Any, end: Any,
) -> None:  # fmt: skip
    """Add a partial sum to tiles begin ... end - 1 of sixteen columns.

    Args:
        a: Codes, uint8 (M, K).
        b: Codes, uint8 (K, N), N a multiple of 16.
        numbers: int32: largest exponent, gamma - 1, bits of a remainder that the table doesn't
            see, accumulator_bits, dropped_bits, guard_bits.
        sizes: Of `kernels.datapath.tables`, int32.
        constants: int64.
        wraps: None, or an integer: whether bins wrap around.
        zero: None, or an integer: whether exponent 0 is the number 0.
        places: int64 (n, 2): row and first column of tiles.
        totals: int64 (M, N), to be added to.
        overflows: Likewise.
        scratch: Address of a line for each bin and one more.
        begin: First tile.
        end: Behind the last.
    """
    width, count = b.shape[1], len(constants)
    for place in range(begin, end):
        i, j = places[place, 0], places[place, 1]
        bins = numba.carray(pointer(scratch, _i32(0)), (count + 1, COLUMNS))
        bins[:] = 0
        for k in range(a.shape[1]):
            below = b.ctypes.data + k * width + j
            _add(_i32(a[i, k]), below, numbers, sizes, count, wraps, zero, scratch)
        for column in range(COLUMNS):
            total = _i64(0)
            for index in range(count):
                total += _i64(bins[index, column]) * constants[index]
            totals[i, j + column] += (total << _i64(numbers[4])) >> _i64(numbers[5])
            overflows[i, j + column] += bins[count, column]


@inlined
def _add(
    a: Any, below: Any, numbers: Any, sizes: Any, count: Any, wraps: Any, zero: Any, scratch: Any
) -> None:
    """One product of sixteen columns into its bins; the line after the bins counts overflows."""
    last, one = splat(numbers[0]), splat(_i32(1))
    b = read(below, _u8(0))
    e = b & last
    exponent = e + splat(_i32(a & numbers[0]))
    value = gather(sizes, exponent)
    value = select((b ^ splat(a)) > last, splat(_i32(0)) - value, value)
    if zero is not None:
        there = (e > splat(_i32(0))) & (splat(_i32(a & numbers[0])) > splat(_i32(0)))
        value = select(there, value, splat(_i32(0)))
    own = (exponent & splat(numbers[1])) >> splat(numbers[2])
    old, index = splat(_i32(0)), splat(_i32(0))
    for line in range(scratch, scratch + 64 * count, 64):
        old = select(own == index, read(line, _i32(0)), old)
        index = index + one
    wanted = old + value
    new = _within(wanted, numbers[3], wraps)
    index = splat(_i32(0))
    for line in range(scratch, scratch + 64 * count, 64):
        write(line, _i32(0), select(own == index, new, read(line, _i32(0))))
        index = index + one
    counts = scratch + 64 * count
    before = read(counts, _i32(0))
    write(counts, _i32(0), select(new == wanted, before, before + one))


@lane
def _within(wanted: Any, bits: Any, wraps: Any) -> Any:
    """`datapath.within` of sixteen sums."""
    if wraps is None:
        high = splat(_i32((_i32(1) << (bits - _i32(1))) - _i32(1)))
        low = splat(_i32(-1)) - high
        wanted = select(wanted > high, high, wanted)
        return select(wanted > low, wanted, low)
    rest = splat(_i32(_i32(32) - bits))
    return (wanted << rest) >> rest


@jit
def one_by_one(
    a: Any, b: Any, last: Any, sizes: Any, bins: Any, constants: Any, half: Any, wraps: Any,
    zero: Any, dropped: Any, guard: Any, places: Any, totals: Any, overflows: Any, begin: Any,
    end: Any,
) -> None:  # fmt: skip
    """Add a partial sum to outputs begin ... end - 1, for any format and width.

    Args:
        a: Codes, int64 (M, K), and b, int64 (N, K): columns are rows.
        b: See a.
        last: Largest exponent; the bit above it is the sign.
        sizes: Of `kernels.datapath.tables`, like the next two.
        bins: int64.
        constants: int64.
        half: 2^(accumulator_bits - 1).
        wraps: Whether bins wrap around.
        zero: Whether exponent 0 is the number 0.
        dropped: dropped_bits.
        guard: guard_bits.
        places: int64 (n, 2): row and column of outputs.
        totals: int64 (M, N), to be added to.
        overflows: Likewise.
        begin: First of them.
        end: Behind the last.
    """
    sums = np.empty(len(constants), np.int64)
    for place in range(begin, end):
        i, j = places[place, 0], places[place, 1]
        sums[:] = 0
        count = 0
        for k in range(a.shape[1]):
            x, y = a[i, k], b[j, k]
            e, f = x & last, y & last
            if zero and (e == 0 or f == 0):
                continue
            value = sizes[e + f]
            if (x ^ y) > last:
                value = -value
            index = bins[e + f]
            wanted = sums[index] + value
            if wanted < -half or wanted >= half:
                count += 1
                if wraps:
                    wanted = ((wanted + half) & (2 * half - 1)) - half
                else:
                    wanted = half - 1 if wanted > 0 else -half
            sums[index] = wanted
        total = 0
        for index in range(len(constants)):
            total += sums[index] * constants[index]
        totals[i, j] += (total << dropped) >> guard
        overflows[i, j] += count
