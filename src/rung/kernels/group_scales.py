"""Scales of groups in the rows of a matrix: the reference of `cpu.groups`, traceable.

Blocks of `block` elements along a row have a scale each; the last one of a row may be shorter, and
a block of 0 is a whole row. Row r has row r modulo `scale_rows` of the scales.
"""

import math

import torch
from torch import Tensor

# Where scales come from: given, but NaN where a group is not finite; the largest magnitudes; the
# powers of two above them; given and taken as they are.
GIVEN, LARGEST, POWER_OF_TWO, READY = range(4)


def each_of(length: int, block: int) -> int:
    """Elements of a block: no more than the row has, at least 1."""
    return min(block or length, length) or 1


def scales_shape(rows: Tensor, block: int, scale_rows: int) -> tuple[int, int]:
    """Shape of the scales of a matrix."""
    count, length = rows.shape
    return scale_rows or count, -(-length // each_of(length, block)) if block else 1


def to_blocks(rows: Tensor, block: int) -> Tensor:
    """Blocks as rows of their own, (rows * blocks, elements); short ones are filled with zeros."""
    if not block:
        return rows
    each = each_of(rows.shape[1], block)
    missing = -rows.shape[1] % each
    padded = torch.nn.functional.pad(rows, (0, missing)) if missing else rows
    return padded.reshape(-1, each)


def from_blocks(blocks: Tensor, rows: Tensor) -> Tensor:
    """The inverse of `to_blocks` for rows of the same shape, contiguous."""
    count, length = rows.shape
    if blocks.shape == rows.shape or not rows.numel():
        return blocks.reshape(rows.shape)
    return blocks.reshape(count, -1)[:, :length].contiguous()


def of_groups(
    rows: Tensor, scale: Tensor | None, source: int, block: int, scale_rows: int
) -> tuple[Tensor, Tensor]:
    """Scales of groups, and the same ones for every block.

    Args:
        rows: (rows, length), float32 or float64.
        scale: Of the scales' shape, or None where they are not given.
        source: One of the four above.
        block: See above.
        scale_rows: Rows of scales, a divisor of the rows; 0: one for each row.

    Returns:
        Scales, (scale_rows, blocks), and a column of them, (rows * blocks, 1).
    """
    shape = scales_shape(rows, block, scale_rows)
    if source == READY:
        assert scale is not None
        scales = scale.reshape(shape).clone()  # an operator returns no argument
    else:
        sizes = to_blocks(rows, block).abs().amax(1).reshape(-1, *shape)
        largest = sizes.amax(0)
        finite = torch.isfinite(largest)
        if source == GIVEN:
            assert scale is not None
            largest = scale.reshape(shape)
        elif source == POWER_OF_TWO:
            largest = power_of_two_above(largest, rows.dtype)
        scales = torch.where(finite, largest, torch.nan)
    repeated = scales.expand(rows.shape[0] // max(1, shape[0]), *shape)
    return scales, repeated.reshape(-1, 1)


def power_of_two_above(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Smallest power of two that is at least the scale; 0, NaN and infinity stay.

    At most the largest power of two of `dtype` (2^127 in float32, 2^15 in float16): values above it
    saturate, by less than a factor of two.
    """
    mantissa, exponent = torch.frexp(scale)
    above = exponent - (mantissa == 0.5).to(exponent.dtype)
    highest = math.frexp(torch.finfo(dtype).max)[1] - 1
    powers = torch.ldexp(torch.ones_like(scale), above.clamp(max=highest))
    return torch.where(torch.isfinite(scale) & (scale > 0), powers, scale)
