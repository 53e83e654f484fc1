"""LNS codes on plain tensors: x = sign * scale * 2^((e - last) / base_factor), e = 0 ... last.

A stored code holds the sign in its top bit and e = 2^(B-1) - 1 - (rungs below the top) in the
others: uint8 up to 8 bits, int16 above. With `zero` the code e = 0 is exactly 0.

This file is the reference, on every device and under torch.compile; on the CPU `cpu.lns` is fast.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from rung.kernels.log_boundary import STEPS, at_least, rung_powers

# Elements that the reference encodes at a time.
_PIECE = 2**20


@dataclass(frozen=True)
class Grid:
    """The numbers of a format that kernels need.

    Attributes:
        bits: B, sign included.
        base_factor: gamma, rungs per octave, a power of two up to 2048.
        zero: Whether e = 0 is exactly 0.
        flush: Whether magnitudes under the smallest code become 0 (needs `zero`).
    """

    bits: int
    base_factor: int
    zero: bool
    flush: bool

    @property
    def last(self) -> int:
        """The largest e."""
        return (1 << (self.bits - 1)) - 1

    @property
    def first(self) -> int:
        """The smallest e that is not zero."""
        return int(self.zero)


def code_dtype(bits: int) -> torch.dtype:
    """The storage of one code: uint8 up to 8 bits, int16 above."""
    return torch.uint8 if bits <= 8 else torch.int16


def exponents(codes: Tensor, bits: int) -> Tensor:
    """Exponent codes e of stored codes, int32 in [0, 2^(B-1))."""
    return codes.to(torch.int32) & ((1 << (bits - 1)) - 1)


def is_negative(codes: Tensor, bits: int) -> Tensor:
    """Signs of stored codes: True where the top bit is set."""
    return (codes.to(torch.int32) & (1 << (bits - 1))) != 0


def join(e: Tensor, negative: Tensor, bits: int) -> Tensor:
    """Stored codes of integers e in [0, 2^(B-1)) and signs."""
    codes = e.to(torch.int32) | (negative.to(torch.int32) << (bits - 1))
    if bits == 16:  # the top bit is int16's own sign bit
        codes = torch.where(codes >= 1 << 15, codes - (1 << 16), codes)
    return codes.to(code_dtype(bits))


def shift_codes(codes: Tensor, bits: int, by: int) -> Tensor:
    """Codes of B - `by` bits: e rounded to its upper bits, ties to even, saturated at the top.

    Args:
        codes: Stored codes of B bits.
        bits: B.
        by: Low bits to drop, 0 ... B - 3.

    Returns:
        Stored codes whose e = 0 stands for the same value s and whose base factor is 2^by smaller.

    Source: Zhao et al. 2021 (LNS-Madam), arXiv:2106.13914: the weights of the update have more bits
        than those of the products and cover the same range.
    """
    e, narrow = exponents(codes, bits), bits - by
    if by:
        half = (1 << (by - 1)) - 1
        e = (e + half + ((e >> by) & 1)) >> by
    return join(e.clamp(max=(1 << (narrow - 1)) - 1), is_negative(codes, bits), narrow)


@functools.cache
def _power_table(grid: Grid, dtype: torch.dtype, device: torch.device) -> Tensor:
    powers = torch.tensor(
        rung_powers(grid.last + 1, grid.base_factor), dtype=torch.float64, device="cpu"
    )
    if grid.zero:
        powers[0] = 0.0
    return powers.to(device=device, dtype=dtype)


def power_table(grid: Grid, like: Tensor, dtype: torch.dtype) -> Tensor:
    """2^((e - last) / gamma) for every e (0 for the zero code); shape (last + 1,)."""
    if type(like) is Tensor and not torch.compiler.is_compiling():
        return _power_table(grid, dtype, like.device)
    # A cached real tensor can't enter a traced graph: compute the table inside it.
    e = torch.arange(grid.last + 1, dtype=torch.float64, device=like.device)
    powers = torch.exp2((e - grid.last) / grid.base_factor)
    return (torch.where(e < grid.first, 0.0, powers)).to(dtype)


def decode_reference(codes: Tensor, scale: Tensor, grid: Grid) -> Tensor:
    """Signed values of stored codes.

    Args:
        codes: Stored codes of any shape.
        scale: Value of the largest code, broadcastable to the codes.
        grid: The format.

    Returns:
        Tensor of the codes' shape and the scale's dtype: fl(scale * fl(2^((e - last) / gamma))).
    """
    table = power_table(grid, codes, scale.dtype)
    e = exponents(codes, grid.bits)
    values = table.index_select(0, e.reshape(-1)).reshape(codes.shape) * scale
    return torch.where(is_negative(codes, grid.bits), -values, values)


def encode_reference(
    rows: Tensor, scale: Tensor, grid: Grid, draws: Tensor | None = None
) -> Tensor:
    """Stored codes of the rungs next to given values.

    Nearest rounding is in the log domain; between float32 values and float32 scales it is exact,
    and exact ties don't exist (see `log_boundary`). Stochastic rounding picks one of the two
    decoded neighbours with the odds that keep the mean. Magnitudes over the top saturate; those
    under the smallest code saturate to it or, with `flush`, become 0 (from half a rung below it on;
    stochastically with the odds that keep the mean).

    Args:
        rows: Finite values, shape (groups, n), float32 or float64 (float64 decides by float64
            logarithms).
        scale: Value of the largest code, shape (groups, 1), same dtype, not negative; 0 where all
            values of a group are 0.
        grid: The format.
        draws: Uniforms in [0, 1) of the rows' shape, for stochastic rounding; see `draws`.

    Returns:
        Stored codes, shape (groups, n).
    """
    traced = type(rows) is not Tensor or torch.compiler.is_compiling()
    if traced or rows.numel() <= _PIECE:
        return _encode_piece(rows, scale, grid, draws)
    # Some hundred bytes of float64 and int64 an element: large tensors are encoded in pieces.
    codes = torch.empty(rows.shape, dtype=code_dtype(grid.bits), device=rows.device)
    many, width = max(1, _PIECE // rows.shape[1]), min(_PIECE, rows.shape[1])
    for top in range(0, rows.shape[0], many):
        for left in range(0, rows.shape[1], width):
            place = (slice(top, top + many), slice(left, left + width))
            part = None if draws is None else draws[place]
            codes[place] = _encode_piece(rows[place], scale[top : top + many], grid, part)
    return codes


def _encode_piece(rows: Tensor, scale: Tensor, grid: Grid, draws: Tensor | None) -> Tensor:
    sizes = rows.abs().double()
    live = (sizes > 0) & (scale > 0)
    safe = torch.where(live, sizes, 1.0)
    tops = torch.where(scale > 0, scale, 1.0).double()
    # log2 of each part: their ratio may underflow.
    position = grid.base_factor * (torch.log2(safe) - torch.log2(tops))
    exact = rows.dtype != torch.float64
    e = _nearest(safe, tops, position, grid, exact) + grid.last
    if draws is None:
        e = e.clamp(min=0 if grid.flush else grid.first)
    else:
        own = rows.dtype
        e = _stochastic(safe.to(own), tops.to(own), e, grid, draws)
    e = torch.where(live, e.clamp(max=grid.last), 0)
    return join(e.to(torch.int32), torch.signbit(rows), grid.bits)


def _nearest(x: Tensor, scale: Tensor, position: Tensor, grid: Grid, exact: bool) -> Tensor:
    """Rungs above the scale (negative: below), int64."""
    if not exact:
        return torch.round(position).to(torch.int64)
    # The logarithm only has to name the right boundary, k + 1/2, to within half a rung.
    k = torch.floor(position).to(torch.int64)
    return k + at_least(x, scale, (2 * k + 1) * (STEPS // 2 // grid.base_factor)).to(torch.int64)


def _stochastic(x: Tensor, scale: Tensor, nearest: Tensor, grid: Grid, draws: Tensor) -> Tensor:
    """Exponent code of one of the two decoded neighbours, from that of the nearest rung.

    Every step is one operation of the values' own dtype, so that all implementations agree.
    """
    low = 0 if grid.flush else grid.first
    table = power_table(grid, x, x.dtype)
    e = nearest.clamp(min=low, max=grid.last)
    near = table[e] * scale
    other = torch.where(x < near, e - 1, e + 1).clamp(min=low, max=grid.last)
    far = table[other] * scale
    under, over = torch.minimum(near, far), torch.maximum(near, far)
    up = draws.to(x.dtype) * (over - under) < x - under
    return torch.where(up, torch.maximum(e, other), torch.minimum(e, other))
