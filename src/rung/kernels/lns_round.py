"""The operators ``rung::lns_round`` and ``rung::lns_decode``: rows to an LNS and back."""

from typing import Any

import torch
from torch import Tensor

from rung.kernels import group_scales
from rung.kernels.dispatch import Operation
from rung.kernels.draws import uniforms
from rung.kernels.lns import Grid, code_dtype, decode_reference, encode_reference, shift_codes


def round_reference(
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    draws: Tensor | None,
    bits: int,
    base_factor: int,
    zero: bool,
    flush: bool,
    block: int,
    scale_rows: int,
    codes: bool,
) -> tuple[Tensor, Tensor]:
    """Values (or stored codes) of rows on the rungs of their groups' scales.

    Args:
        rows: (rows, length), float32 or float64, contiguous.
        scale: Value of the largest code of each group, (scale_rows, blocks), the rows' dtype; or
            None where `source` makes it.
        source: One of those of `group_scales`.
        draws: int16 of the rows' shape for stochastic rounding, see `draws`; None rounds to
            nearest.
        bits: B, as the following those of `lns.Grid`.
        base_factor: gamma.
        zero: Whether e = 0 is exactly 0.
        flush: Whether what is too small becomes 0.
        block: Elements of a row that share a scale; 0 for all.
        scale_rows: Rows of scales; row r has row r modulo that. 0: one for each row.
        codes: Return stored codes, not values.

    Returns:
        Values or codes of the rows' shape, and scales, (scale_rows, blocks): NaN for a group that
        holds NaN or infinity, which then is NaN as a whole.
    """
    grid = Grid(bits, base_factor, zero, flush)
    scales, column = group_scales.of_groups(rows, scale, source, block, scale_rows)
    blocks = group_scales.to_blocks(rows, block)
    chances = None
    if draws is not None:
        chances = uniforms(group_scales.to_blocks(draws, block), rows.dtype)
    out = encode_reference(blocks, column, grid, chances)
    if not codes:
        out = decode_reference(out, column, grid)
    return group_scales.from_blocks(out, rows), scales


def decode_operator(
    codes: Tensor, scale: Tensor, bits: int, base_factor: int, zero: bool, drop: int, block: int
) -> Tensor:
    """Values of stored codes, or of their shift by `drop` bits.

    Args:
        codes: Stored codes of `bits` + `drop` bits, any shape.
        scale: Value of the largest code, broadcastable to the codes; of shape (..., blocks) with
            `block`.
        bits: B of the result, as the following those of `lns.Grid`.
        base_factor: gamma.
        zero: Whether e = 0 is exactly 0.
        drop: Low bits to round away first, see `lns.shift_codes`.
        block: Length of blocks along the last dimension, or 0.

    Returns:
        Tensor of the codes' shape and the scale's dtype.
    """
    if drop:
        codes = shift_codes(codes, bits + drop, drop)
    if block:
        length = codes.shape[-1]
        each = group_scales.each_of(length, block)
        scale = scale.repeat_interleave(each, dim=-1)[..., :length]
    return decode_reference(codes, scale, Grid(bits, base_factor, zero, False))


def _serves(rows: Tensor, *rest: Any) -> bool:
    return rows.dtype == torch.float32


def _serves_decoding(codes: Tensor, scale: Tensor, *rest: Any) -> bool:
    return scale.dtype == torch.float32


def _fake(rows: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    bits, block, scale_rows, codes = rest[3], *rest[7:]
    dtype = code_dtype(bits) if codes else rows.dtype
    shape = group_scales.scales_shape(rows, block, scale_rows)
    return rows.new_empty(rows.shape, dtype=dtype), rows.new_empty(shape)


lns_round = Operation(
    "lns_round",
    "(Tensor rows, Tensor? scale, int source, Tensor? draws, int bits, int base_factor, bool zero,"
    " bool flush, int block, int scale_rows, bool codes) -> (Tensor, Tensor)",
    round_reference,
    cpu="rung.kernels.cpu.lns:round_rows",
    gpu="rung.kernels.gpu.lns:lns_round",
    serves=_serves,
    fake=_fake,
)
lns_decode = Operation(
    "lns_decode",
    "(Tensor codes, Tensor scale, int bits, int base_factor, bool zero, int drop, int block)"
    " -> Tensor",
    decode_operator,
    cpu="rung.kernels.cpu.lns:decode",
    gpu="rung.kernels.gpu.lns:lns_decode",
    serves=_serves_decoding,
    fake=lambda codes, scale, *rest: scale.new_empty(codes.shape),
)
