"""The operators ``rung::ladder_round`` and ``rung::ladder_decode``: rows to a ladder and back."""

from typing import Any

import torch
from torch import Tensor

from rung.kernels import group_scales
from rung.kernels.dispatch import Operation
from rung.kernels.ladder import (
    code_dtype,
    decode_magnitudes,
    encode_magnitudes,
    stochastic_codes,
    store_codes,
)
from rung.kernels.signs import unpack_signs

FINEST = 2e-5
"""The smallest base precision of fast implementations.

Their logarithms are wrong by less than a quarter of such a rung, and rungs lie further apart than
what they decide one by one.
"""


def round_reference(
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    draws: Tensor | None,
    bits: int,
    base_precision: float,
    block: int,
    scale_rows: int,
    codes: bool,
) -> tuple[Tensor, Tensor]:
    """Signed values (or stored codes, which hold no sign) of rows on their groups' ladders.

    Args:
        rows: (rows, length), float32 or float64, contiguous.
        scale: W_max of each group, (scale_rows, blocks), the rows' dtype; or None where `source`
            makes it.
        source: One of those of `group_scales`; a ladder has no power of two.
        draws: int16 of the rows' shape for stochastic rounding; None rounds to nearest.
        bits: B.
        base_precision: eta0.
        block: Elements of a row that share a scale; 0 for all.
        scale_rows: Rows of scales; row r has row r modulo that. 0: one for each row.
        codes: Return stored codes, not values.

    Returns:
        Values or codes of the rows' shape, and scales, (scale_rows, blocks): NaN for a group that
        holds NaN or infinity. Where a scale is not positive and finite, values are NaN and codes 0.
        Zeros are rounded like the smallest positive number.
    """
    scales, column = group_scales.of_groups(rows, scale, source, block, scale_rows)
    blocks = group_scales.to_blocks(rows, block)
    live = (column > 0) & torch.isfinite(column)
    tops, sizes = torch.where(live, column, 1.0), torch.where(live, blocks.abs(), 1.0)
    found = encode_magnitudes(sizes, tops, bits, base_precision)
    if draws is not None:
        chances = group_scales.to_blocks(draws, block)
        found = stochastic_codes(sizes, tops, found, bits, base_precision, chances)
    out = store_codes(found, bits)
    if codes:
        out = torch.where(live, out, 0)
    else:
        values = decode_magnitudes(out, tops, bits, base_precision)
        out = torch.where(live, torch.where(blocks < 0, -values, values), torch.nan)
    return group_scales.from_blocks(out, rows), scales


def decode_reference(
    codes: Tensor,
    scale: Tensor,
    signs: Tensor | None,
    bits: int,
    base_precision: float,
    block: int,
) -> Tensor:
    """Values of stored codes.

    Args:
        codes: Stored codes of any shape.
        scale: W_max, broadcastable to the codes; of shape (..., blocks) with `block`.
        signs: Packed signs of the codes in flat order, see `kernels.signs`; None: all positive.
        bits: B.
        base_precision: eta0.
        block: Length of blocks along the last dimension, or 0.

    Returns:
        Tensor of the codes' shape and the scale's dtype.
    """
    if block:
        length = codes.shape[-1]
        each = group_scales.each_of(length, block)
        scale = scale.repeat_interleave(each, dim=-1)[..., :length]
    magnitudes = decode_magnitudes(codes, scale, bits, base_precision)
    if signs is None:
        return magnitudes
    factors = unpack_signs(signs, 0, magnitudes.numel(), magnitudes.dtype)
    return magnitudes * factors.reshape(magnitudes.shape)


def _serves(rows: Tensor, *rest: Any) -> bool:
    return rows.dtype == torch.float32 and rest[4] >= FINEST


def _serves_decoding(codes: Tensor, scale: Tensor, *rest: Any) -> bool:
    return scale.dtype == torch.float32


def _fake(rows: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    bits, block, scale_rows, codes = rest[3], *rest[5:]
    dtype = code_dtype(bits) if codes else rows.dtype
    shape = group_scales.scales_shape(rows, block, scale_rows)
    return rows.new_empty(rows.shape, dtype=dtype), rows.new_empty(shape)


ladder_round = Operation(
    "ladder_round",
    "(Tensor rows, Tensor? scale, int source, Tensor? draws, int bits, float base_precision,"
    " int block, int scale_rows, bool codes) -> (Tensor, Tensor)",
    round_reference,
    cpu="rung.kernels.cpu.ladder:round_rows",
    gpu="rung.kernels.gpu.ladder:ladder_round",
    serves=_serves,
    fake=_fake,
)
ladder_decode = Operation(
    "ladder_decode",
    "(Tensor codes, Tensor scale, Tensor? signs, int bits, float base_precision, int block)"
    " -> Tensor",
    decode_reference,
    cpu="rung.kernels.cpu.ladder:decode",
    gpu="rung.kernels.gpu.ladder:ladder_decode",
    serves=_serves_decoding,
    fake=lambda codes, scale, *rest: scale.new_empty(codes.shape),
)
