"""`rung.kernels.datapath` on the CPU: exact sums where no bin can overflow, else bin by bin."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rung.kernels.cpu import datapath_bins as in_order
from rung.kernels.cpu import datapath_loops as loops
from rung.kernels.cpu import datapath_rows as by_rows
from rung.kernels.cpu import threads
from rung.kernels.datapath import Design, constant, mantissa_and_bin, split

# Multiply-accumulates that are worth a thread.
_GRAIN = 2**22
# Planes of more remainders than this don't fit the first cache; float64 is exact up to 2^53.
_MOST_PLANES, _EXACT = 16, 2.0**53
# Share of outputs that can't overflow from which on these are computed apart.
_MANY = 0.9
# Terms up to which the bounds below hold, which are sums of float32 themselves.
_LONGEST = 100_000


def matmul(
    a: Tensor, b: Tensor, sizes: Tensor, bins: Tensor, constants: Tensor, vector_length: int,
    *numbers: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`datapath.reference`: the same sums and overflows."""
    design = Design(*numbers)
    # Modes of the caller's must not see these products: a bound that is rounded is none.
    with torch._C.DisableTorchFunction(), torch.device("cpu"), torch.autocast("cpu", enabled=False):
        shape = (a.shape[0], b.shape[1])
        total, overflows = (torch.zeros(shape, dtype=torch.int64) for _ in range(2))
        for start in range(0, a.shape[1], vector_length):
            part = slice(start, start + vector_length)
            _add(a[:, part], b[part], (sizes, bins, constants), design, total, overflows)
    return total, overflows


def _add(
    a: Tensor, b: Tensor, tables: tuple[Tensor, ...], design: Design, total: Tensor,
    overflows: Tensor,
) -> None:  # fmt: skip
    """One partial sum of every output."""
    planes = _planes_of(design) if a.dtype == torch.uint8 else None
    depth = a.shape[1]
    if planes is None or depth > _LONGEST or depth * planes.largest >= _EXACT:
        _in_order(a, b, tables, design, None, total, overflows)
        return
    sure = _sure(a, b, design)
    if sure is None:
        total += _exact(a, b, planes, design) >> design.guard_bits
        return
    # Both loops together take longer than the second alone if that has much to do.
    if float(sure.float().mean()) > (0.0 if by_rows.rows_of(design) is None else _MANY):
        total += torch.where(sure, _exact(a, b, planes, design) >> design.guard_bits, 0)
        _in_order(a, b, tables, design, ~sure, total, overflows)
        return
    _in_order(a, b, tables, design, None, total, overflows)


def _sure(a: Tensor, b: Tensor, design: Design) -> Tensor | None:
    """Outputs of which no bin can overflow, (M, N); None for all of them."""
    limit = 2.0 ** (design.accumulator_bits - 1)
    x, y = _magnitudes(a, design), _magnitudes(b, design)
    # A sum of magnitudes is at most a product of two lengths, which is sooner computed.
    if float(x.norm(dim=1).max() * y.norm(dim=0).max()) < limit:
        return None
    sure = x @ y < limit
    return None if bool(sure.all()) else sure


def _magnitudes(codes: Tensor, design: Design) -> Tensor:
    """Square roots of bounds of what codes' products add to a bin: 2^(e / gamma) in its unit."""
    exponents, _ = split(torch.arange(256), design.bits)
    # 1 + x is up to 6.2 % more than 2^x; float32 adds less than 1 % for `_LONGEST` terms.
    unit = 1.08 * 2.0 ** (design.guard_bits - design.dropped_bits)
    sizes: Tensor = torch.exp2(exponents.to(torch.float32) / design.base_factor) * unit**0.5
    if design.zero:
        sizes[exponents == 0] = 0
    return sizes[codes.to(torch.int64)]


class _Planes(NamedTuple):
    """Tables of `datapath_loops.exact`, and the largest magnitude of a product."""

    values: NDArray[np.float64]
    factors: NDArray[np.float64]
    remainders: NDArray[np.int64]
    least: NDArray[np.int32]
    largest: float


@lru_cache(maxsize=64)
def _planes_of(design: Design) -> _Planes | None:
    """None where products don't have the loop's structure: mantissas that lose bits of theirs."""
    gamma, last = design.base_factor, design.last
    if gamma > _MOST_PLANES or design.bits > 8 or (design.guard_bits and design.dropped_bits):
        return None
    codes = np.arange(256)
    exponents = codes & last
    signs = np.where((codes >> (design.bits - 1)) & 1, -1.0, 1.0)
    there = (exponents > 0) | (not design.zero)
    values = np.zeros((gamma, 256))
    for remainder in range(gamma):
        for code in codes:
            shift, rest = divmod(remainder + int(exponents[code]), gamma)
            mantissa, index = mantissa_and_bin(design, rest)
            values[remainder, code] = float(mantissa * constant(design, index) << shift)
    values *= signs * there
    factors = signs * there * 2.0 ** (exponents // gamma)
    remainders = (exponents % gamma) * (8 * loops.DEPTH * loops.COLUMNS)
    least = np.clip(gamma * design.dropped_bits - exponents, 0, 255).astype(np.int32)
    largest = float(np.abs(values).max() * np.abs(factors).max())
    return _Planes(values, factors, remainders, least, largest)


def _exact(a: Tensor, b: Tensor, planes: _Planes, design: Design) -> Tensor:
    """Sums of all products, int64 (M, N), in units of 2^-(fraction_bits + guard_bits)."""
    rows, (depth, width) = a.shape[0], b.shape
    padded = torch.zeros((depth, -(-width // loops.COLUMNS) * loops.COLUMNS), dtype=torch.uint8)
    padded[:, :width] = b
    ours, theirs = a.contiguous().numpy(), padded.numpy()
    exponents = (padded & design.last).numpy()
    sums = np.zeros((rows, padded.shape[1]))
    drops = 1 if design.dropped_bits else None

    def work(begin: int, end: int) -> None:
        room = np.empty(design.base_factor * loops.DEPTH * loops.COLUMNS + 8)
        address = room.ctypes.data
        loops.exact(
            ours, theirs, exponents, *planes[:4], drops, sums, address + -address % 64, begin, end
        )

    tiles = padded.shape[1] // loops.COLUMNS
    grain = max(1, _GRAIN // max(1, rows * depth * loops.COLUMNS))
    threads.run(work, threads.split(tiles, grain=grain))
    return torch.from_numpy(sums)[:, :width].to(torch.int64)


def _in_order(
    a: Tensor, b: Tensor, tables: tuple[Tensor, ...], design: Design, wanted: Tensor | None,
    total: Tensor, overflows: Tensor,
) -> None:  # fmt: skip
    """Outputs whose bins may overflow; all if `wanted` is None."""
    rows = by_rows.rows_of(design) if a.dtype == torch.uint8 else None
    if rows is not None:
        by_rows.add(a, b, rows, design, wanted, total, overflows)
        return
    if a.dtype == torch.uint8 and design.accumulator_bits <= in_order.WIDEST:
        _by_tiles(a, b, tables, design, wanted, total, overflows)
        return
    places = (torch.ones_like(total) if wanted is None else wanted).nonzero().numpy()
    mask = 2 * design.last + 1
    ours = (a.to(torch.int64) & mask).contiguous().numpy()
    theirs = (b.to(torch.int64) & mask).T.contiguous().numpy()
    numbers = [table.contiguous().numpy() for table in tables]
    half = 1 << (design.accumulator_bits - 1)

    def work(begin: int, end: int) -> None:
        in_order.one_by_one(
            ours, theirs, design.last, *numbers, half, design.wraps, design.zero,
            design.dropped_bits, design.guard_bits, places, total.numpy(), overflows.numpy(),
            begin, end,
        )  # fmt: skip

    threads.run(work, threads.split(len(places), grain=max(1, _GRAIN // a.shape[1])))


def _by_tiles(
    a: Tensor, b: Tensor, tables: tuple[Tensor, ...], design: Design, wanted: Tensor | None,
    total: Tensor, overflows: Tensor,
) -> None:  # fmt: skip
    """Likewise, sixteen columns at a time: tiles with an output that is wanted."""
    sizes, _, constants = tables
    columns = in_order.COLUMNS
    rows, (depth, width) = a.shape[0], b.shape
    padded = torch.zeros((depth, -(-width // columns) * columns), dtype=torch.uint8)
    padded[:, :width] = b
    asked = torch.zeros((rows, padded.shape[1]), dtype=torch.bool)
    asked[:, :width] = True if wanted is None else wanted
    places = asked.view(rows, -1, columns).any(2).nonzero() * torch.tensor([1, columns])
    found = [torch.zeros(asked.shape, dtype=torch.int64) for _ in range(2)]
    gamma = design.base_factor
    numbers = np.array(
        [
            design.last, gamma - 1, (gamma // design.table_size).bit_length() - 1,
            design.accumulator_bits, design.dropped_bits, design.guard_bits,
        ],
        np.int32,
    )  # fmt: skip
    fixed = (a.contiguous().numpy(), padded.numpy(), numbers, sizes.to(torch.int32).numpy())
    modes = tuple(1 if mode else None for mode in (design.wraps, design.zero))
    results = (constants.numpy(), *modes, places.numpy(), *(tensor.numpy() for tensor in found))

    def work(begin: int, end: int) -> None:
        room = np.empty(16 * (design.table_size + 2), np.int32)
        address = room.ctypes.data
        in_order.tiles(*fixed, *results, address + -address % 64, begin, end)

    grain = max(1, _GRAIN // (depth * columns))
    threads.run(work, threads.split(len(places), grain=grain))
    for result, tile in zip((total, overflows), found, strict=True):
        result += torch.where(asked, tile, 0)[:, :width]
