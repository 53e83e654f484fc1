"""`rung.kernels.datapath` on a GPU.

Where no bin can overflow and no bits are dropped, a sum of products is exact in float64 in any
order: a library's matrix product computes it, of operands with a column for every remainder of a's
codes. Otherwise a kernel keeps bins, a tile of outputs at a time.
"""

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from rung.kernels import datapath
from rung.kernels.datapath import Design
from rung.kernels.gpu.jit import Value, jit, on

# A float64 sum is exact below 2^53; bins of more constants than this don't fit a program.
_EXACT, _MOST_BINS, _TILE = 2.0**53, 16, 16


@jit
def _in_order(
    a: Value, b: Value, sizes: Value, constants: Value, total: Value, overflows: Value, rows: Value,
    width: Value, depth: Value, dropped: Value, guard: Value, LAST: tl.constexpr,
    GAMMA: tl.constexpr, SPAN: tl.constexpr, BITS: tl.constexpr, WRAPS: tl.constexpr,
    ZERO: tl.constexpr, BINS: tl.constexpr, DEPTH: tl.constexpr, TILE: tl.constexpr,
) -> None:  # fmt: skip
    """Add a partial sum to a tile of outputs, bin by bin and product by product."""
    i = tl.program_id(0) * TILE + tl.arange(0, TILE)
    j = tl.program_id(1) * TILE + tl.arange(0, TILE)
    index = tl.arange(0, BINS)[:, None, None]
    sums = tl.zeros([BINS, TILE, TILE], tl.int64)
    count = tl.zeros([TILE, TILE], tl.int64)
    # A constant: the interpreter can't count to a number that is a tensor.
    for k in range(DEPTH):
        x = tl.load(a + i * depth + k, i < rows, other=0).to(tl.int32)[:, None]
        y = tl.load(b + k * width + j, j < width, other=0).to(tl.int32)[None, :]
        e, f = x & LAST, y & LAST
        value = tl.load(sizes + (e + f))
        value = tl.where(((x ^ y) & (LAST + 1)) != 0, -value, value)
        if ZERO:
            value = tl.where((e > 0) & (f > 0), value, 0)
        own = index == (((e + f) & (GAMMA - 1)) // SPAN)[None, :, :]
        wanted = tl.sum(tl.where(own, sums, 0), 0) + value
        half = tl.full([], 1, tl.int64) << (BITS - 1)
        if WRAPS:
            kept = ((wanted + half) & (2 * half - 1)) - half
        else:
            kept = tl.minimum(tl.maximum(wanted, -half), half - 1)
        count += (kept != wanted).to(tl.int64)
        sums = tl.where(own, kept[None, :, :], sums)
    whole = tl.sum(sums * tl.load(constants + index), 0)
    place = i.to(tl.int64)[:, None] * width + j[None, :]
    mask = (i[:, None] < rows) & (j[None, :] < width)
    before = tl.load(total + place, mask, other=0)
    tl.store(total + place, before + ((whole << dropped) >> guard), mask)
    tl.store(overflows + place, tl.load(overflows + place, mask, other=0) + count, mask)


def matmul(
    a: Tensor, b: Tensor, sizes: Tensor, bins: Tensor, constants: Tensor, vector_length: int,
    *numbers: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`datapath.reference`: the same sums and overflows."""
    design = Design(*numbers)
    if design.table_size > _MOST_BINS:
        return datapath.reference(a, b, sizes, bins, constants, vector_length, *numbers)
    shape = (a.shape[0], b.shape[1])
    total, overflows = (torch.zeros(shape, dtype=torch.int64, device=a.device) for _ in range(2))
    for start in range(0, a.shape[1], vector_length):
        part = slice(start, start + vector_length)
        left, right = a[:, part].contiguous(), b[part].contiguous()
        sums = exact(left, right, design)
        if sums is not None:
            total += sums >> design.guard_bits
            continue
        span = design.base_factor // design.table_size
        with on(a.device):
            _in_order[(-(-shape[0] // _TILE), -(-shape[1] // _TILE))](
                left, right, sizes, constants, total, overflows, *shape, left.shape[1],
                design.dropped_bits, design.guard_bits, design.last, design.base_factor, span,
                design.accumulator_bits, design.wraps, design.zero, design.table_size,
                left.shape[1], _TILE,
            )  # fmt: skip
    return total, overflows


def exact(a: Tensor, b: Tensor, design: Design) -> Tensor | None:
    """Sums before the guard bits are dropped, by a float64 product; None if it can't be trusted."""
    if design.dropped_bits or design.table_size > _MOST_BINS or design.base_factor > _MOST_BINS:
        return None
    (ea, sa), (eb, sb) = datapath.split(a, design.bits), datapath.split(b, design.bits)
    gamma = design.base_factor
    # Products of the largest codes here, which a sum may have depth times.
    largest = (int(ea.max()) + int(eb.max())) // gamma + 1 + design.guard_bits
    room = a.shape[1] << largest
    if room > 1 << (design.accumulator_bits - 1) or room << (design.fraction_bits + 1) > _EXACT:
        return None
    if design.zero:
        sa, sb = sa * (ea > 0), sb * (eb > 0)
    values = torch.empty((gamma, *b.shape), dtype=torch.float64, device=b.device)
    for remainder in range(gamma):
        values[remainder] = _values(design, remainder, b.device)[eb] * sb
    left = torch.zeros((gamma, *a.shape), dtype=torch.float64, device=a.device)
    left.scatter_(0, (ea % gamma)[None], (sa << (ea // gamma)).to(torch.float64)[None])
    flat = left.permute(1, 0, 2).reshape(a.shape[0], -1) @ values.reshape(-1, b.shape[1])
    return flat.to(torch.int64)


def _values(design: Design, remainder: int, device: torch.device) -> Tensor:
    """Products of every exponent with a remainder, in units of 2^-(fraction_bits + guard_bits)."""
    found = []
    for exponent in range(design.last + 1):
        shift, rest = divmod(remainder + exponent, design.base_factor)
        mantissa, index = datapath.mantissa_and_bin(design, rest)
        found.append(float(mantissa * datapath.constant(design, index) << shift))
    return torch.tensor(found, dtype=torch.float64, device=device)
