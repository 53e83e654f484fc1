"""Sinh codes on plain tensors: W = scale * knee * sinh(k h), and code = k + K.

K = 2^(bits - 1) - 1 is the number of rungs on either side of zero, whose code it is. The pattern
2^bits - 1 stands for nothing and decodes like the top rung. Storage is that of `ladder`.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from rung.kernels import group_scales
from rung.kernels.dispatch import Operation
from rung.kernels.draws import uniforms
from rung.kernels.ladder import code_dtype, load_codes, store_codes
from rung.kernels.sinh_tables import boundaries, rungs, spacing

FINEST = 1e-5
"""The smallest `spacing` of fast implementations.

Their logarithms are wrong by 2.5e-6 of an octave, a fifth of such a rung.
"""


def top_of(bits: int) -> int:
    """K: rungs on either side of zero."""
    return (1 << (bits - 1)) - 1


# Constants of a traced graph are made outside of it; see `ladder.boundary_table`.
def _tables(bits: int, knee: float, device: torch.device) -> tuple[Tensor, Tensor]:
    return _cached_tables(bits, knee, device)


_tables._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _cached_tables(bits: int, knee: float, device: torch.device) -> tuple[Tensor, Tensor]:
    above = torch.tensor(rungs(bits, knee), dtype=torch.float64, device="cpu")
    # One more for the pattern that stands for nothing.
    values = torch.cat([-above.flip(0)[:-1], above, above[-1:]])
    ends = torch.tensor(boundaries(bits, knee), dtype=torch.float64, device="cpu")
    return values.to(device), ends.to(device)


def value_table(bits: int, knee: float, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Value of every code at scale 1; shape (2^bits,), on the device of `like`."""
    return _tables(bits, knee, like.device)[0].to(dtype)


def end_table(bits: int, knee: float, like: Tensor) -> Tensor:
    """Where the rung of k = 0 ... K - 1 ends, as a fraction of the scale; float64, (K,)."""
    return _tables(bits, knee, like.device)[1]


def nearest_rungs(sizes: Tensor, scale: Tensor, bits: int, knee: float) -> Tensor:
    """|k| of magnitudes; nearest in asinh(W / (knee * scale)).

    Decided by comparing their quotient in float64 with the boundaries, which no float32 meets.

    Args:
        sizes: Magnitudes.
        scale: W_max, broadcastable; where it is 0 or NaN, k is 0.
        bits: B.
        knee: Knee.

    Returns:
        int64 in [0, K], of the magnitudes' shape.
    """
    tops = scale.double()
    share = torch.where(tops > 0, sizes.double() / tops, 0.0)
    return torch.bucketize(share, end_table(bits, knee, sizes), right=True)


def either_rung(
    sizes: Tensor, scale: Tensor, nearest: Tensor, bits: int, knee: float, chances: Tensor
) -> Tensor:
    """One of the two decoded neighbours of each magnitude, from the nearest |k|; int64.

    With the odds that make the decoded value's mean equal to the magnitude. Every step is one
    operation of the scale's dtype, so that all implementations agree.
    """
    last = top_of(bits)
    table = value_table(bits, knee, scale, scale.dtype)
    near = table[nearest + last] * scale
    other = torch.where(sizes < near, nearest - 1, nearest + 1).clamp(0, last)
    far = table[other + last] * scale
    under, over = torch.minimum(near, far), torch.maximum(near, far)
    up = chances * (over - under) < sizes - under
    return torch.where(up, torch.maximum(nearest, other), torch.minimum(nearest, other))


def round_reference(
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    draws: Tensor | None,
    bits: int,
    knee: float,
    block: int,
    scale_rows: int,
    codes: bool,
) -> tuple[Tensor, Tensor]:
    """Values (or stored codes) of rows on their groups' sinh ladders.

    Args:
        rows: (rows, length), float32 or float64, contiguous.
        scale: W_max of each group, (scale_rows, blocks), the rows' dtype; or None where `source`
            makes it.
        source: One of those of `group_scales`.
        draws: int16 of the rows' shape for stochastic rounding, see `draws`; None rounds to
            nearest.
        bits: B.
        knee: As a fraction of the scale.
        block: Elements of a row that share a scale; 0 for all.
        scale_rows: Rows of scales; row r has row r modulo that. 0: one for each row.
        codes: Return stored codes, not values.

    Returns:
        Values or codes of the rows' shape, and scales, (scale_rows, blocks): NaN for a group that
        holds NaN or infinity. Where a scale is not finite, values are NaN and codes that of 0;
        where it is 0, values are 0.
    """
    scales, column = group_scales.of_groups(rows, scale, source, block, scale_rows)
    blocks = group_scales.to_blocks(rows, block)
    live = (column > 0) & torch.isfinite(column)
    tops, sizes = torch.where(live, column, 0.0), torch.where(live, blocks.abs(), 0.0)
    found = nearest_rungs(sizes, tops, bits, knee)
    if draws is not None:
        chances = uniforms(group_scales.to_blocks(draws, block), rows.dtype)
        found = either_rung(sizes, tops, found, bits, knee, chances)
    signed = torch.where(blocks < 0, -found, found) + top_of(bits)
    if codes:
        out = store_codes(signed.to(torch.int32), bits)
    else:
        out = value_table(bits, knee, rows, rows.dtype)[signed] * column
    return group_scales.from_blocks(out, rows), scales


def decode_reference(codes: Tensor, scale: Tensor, bits: int, knee: float, block: int) -> Tensor:
    """Values of stored codes.

    Args:
        codes: Stored codes of any shape.
        scale: W_max, broadcastable to the codes; of shape (..., blocks) with `block`.
        bits: B.
        knee: As a fraction of the scale.
        block: Length of blocks along the last dimension, or 0.

    Returns:
        Tensor of the codes' shape and the scale's dtype.
    """
    if block:
        length = codes.shape[-1]
        each = group_scales.each_of(length, block)
        scale = scale.repeat_interleave(each, dim=-1)[..., :length]
    table = value_table(bits, knee, codes, scale.dtype)
    return table.index_select(0, load_codes(codes).reshape(-1)).reshape(codes.shape) * scale


def _serves(rows: Tensor, *rest: Any) -> bool:
    return rows.dtype == torch.float32 and spacing(rest[3], rest[4]) >= FINEST


def _serves_decoding(codes: Tensor, scale: Tensor, *rest: Any) -> bool:
    return scale.dtype == torch.float32


def _fake(rows: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    bits, block, scale_rows, codes = rest[3], *rest[5:]
    dtype = code_dtype(bits) if codes else rows.dtype
    shape = group_scales.scales_shape(rows, block, scale_rows)
    return rows.new_empty(rows.shape, dtype=dtype), rows.new_empty(shape)


sinh_round = Operation(
    "sinh_round",
    "(Tensor rows, Tensor? scale, int source, Tensor? draws, int bits, float knee, int block,"
    " int scale_rows, bool codes) -> (Tensor, Tensor)",
    round_reference,
    cpu="rung.kernels.cpu.sinh:round_rows",
    gpu="rung.kernels.gpu.sinh:sinh_round",
    serves=_serves,
    fake=_fake,
)
sinh_decode = Operation(
    "sinh_decode",
    "(Tensor codes, Tensor scale, int bits, float knee, int block) -> Tensor",
    decode_reference,
    cpu="rung.kernels.cpu.sinh:decode",
    gpu="rung.kernels.gpu.sinh:sinh_decode",
    serves=_serves_decoding,
    fake=lambda codes, scale, *rest: scale.new_empty(codes.shape),
)
