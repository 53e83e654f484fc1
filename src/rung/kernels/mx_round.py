"""Operators on blocks with shared power-of-two scales, and on rows of small floats.

``rung::mx_quantize``, ``rung::mx_encode``, ``rung::mx_decode`` and ``rung::minifloat_cast``. Random
numbers are int32 words of Philox, one an element, of which the upper 24 bits count.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from rung.kernels.dispatch import Operation
from rung.kernels.draws import uniforms_of_words
from rung.kernels.group_scales import each_of, from_blocks, to_blocks
from rung.kernels.minifloat import (
    Grid,
    casts,
    codes_reference,
    round_reference,
    values_reference,
)
from rung.kernels.mx import NAN_SCALE, Rule, scale_codes_reference, scale_values

GRID = (
    "int bits, int mantissa_bits, int lowest, float largest, bool subnormals, bool fixed,"
    " int? infinity, int? nan, bool saturate"
)
"""The fields of `minifloat.Grid` in a schema."""
RULE = "int emax, float fraction, bool inclusive"
"""The fields of `mx.Rule` in a schema."""


@functools.cache
def fields(numbers: Grid | Rule) -> tuple[Any, ...]:
    """The fields of a grid or a rule in their order: arguments of the operators."""
    return tuple(vars(numbers).values())


def scale_back(values: Tensor, scale: Tensor, grid: Grid, most: float) -> Tensor:
    """Values of codes times their scale; what is finite stays so, within `most`."""
    scaled = values * scale
    most = min(most, torch.finfo(scaled.dtype).max)
    bounded = scaled.clamp(-most, most)
    if grid.infinity is not None:
        bounded = torch.where(torch.isinf(values), scaled, bounded)
    return bounded


def _blocks(
    rows: Tensor, draws: Tensor | None, block: int, rule: Rule, grid: Grid
) -> tuple[Tensor, Tensor]:
    """Values on the grid, (rows * blocks, elements), and scale codes, (rows * blocks, 1), int32."""
    cut = to_blocks(rows, block)
    codes = scale_codes_reference(cut.abs().amax(dim=-1, keepdim=True), rule)
    inverse = scale_values((254 - codes).clamp(min=0), cut.dtype)
    scaled = torch.where(codes == NAN_SCALE, 0.0, cut * inverse)
    chances = None if draws is None else uniforms_of_words(to_blocks(draws, block))
    return round_reference(scaled, grid, chances), codes


def quantize_reference(
    rows: Tensor, draws: Tensor | None, block: int, most: float, *numbers: Any
) -> tuple[Tensor, Tensor]:
    """Values of blocks along the rows, and their scale codes.

    Args:
        rows: (n, length), float32 or float64, contiguous.
        draws: int32 words of the rows' shape for stochastic rounding; None rounds to nearest.
        block: Elements of a block; the last of a row may be shorter.
        most: Largest magnitude of a result.
        numbers: The fields of `mx.Rule`, and of the elements' `minifloat.Grid`: saturating.

    Returns:
        Values of the rows' shape and dtype, and scale codes, uint8, (n, blocks): 255 for blocks
        that hold NaN or infinity, which then are NaN as a whole.
    """
    rule, grid = Rule(*numbers[:3]), Grid(*numbers[3:])
    rounded, codes = _blocks(rows, draws, block, rule, grid)
    values = scale_back(rounded, scale_values(codes, rounded.dtype), grid, most)
    return from_blocks(values, rows), _scales(codes, rows, block)


def encode_reference(
    rows: Tensor, draws: Tensor | None, block: int, *numbers: Any
) -> tuple[Tensor, Tensor]:
    """Codes, uint8 of the rows' shape, and scale codes, uint8, (n, blocks).

    Arguments of `quantize_reference`, without the largest magnitude. Codes of blocks that are not
    finite are 0.
    """
    rule, grid = Rule(*numbers[:3]), Grid(*numbers[3:])
    rounded, codes = _blocks(rows, draws, block, rule, grid)
    return from_blocks(codes_reference(rounded, grid), rows), _scales(codes, rows, block)


def decode_reference(
    codes: Tensor, scales: Tensor, block: int, wide: bool, *numbers: Any
) -> Tensor:
    """Values of codes.

    Args:
        codes: uint8, (n, length), contiguous.
        scales: Scale codes, uint8, (n, blocks), contiguous.
        block: Elements of a block.
        wide: Return float64, else float32.
        numbers: The fields of the elements' `minifloat.Grid`.

    Returns:
        Tensor of the codes' shape: finite where the code is, NaN in blocks of scale code 255.
    """
    grid, dtype = Grid(*numbers), torch.float64 if wide else torch.float32
    values = values_reference(to_blocks(codes, block), grid, dtype)
    factors = scale_values(scales.to(torch.int32).reshape(-1, 1), dtype)
    return from_blocks(scale_back(values, factors, grid, torch.finfo(dtype).max), codes)


def cast_reference(
    rows: Tensor, scale: Tensor, draws: Tensor | None, back: bool, most: float, *numbers: Any
) -> Tensor:
    """Rows over their scales, on the grid. NaN and infinity may become anything.

    Args:
        rows: (n, length), float32 or float64, contiguous.
        scale: (n, 1), the rows' dtype; what is not positive counts as 1.
        draws: int32 words of the rows' shape for stochastic rounding; None rounds to nearest.
        back: Put the scale back (a row of scale NaN then is NaN).
        most: Largest magnitude of a finite result with `back`.
        numbers: The fields of a `minifloat.Grid`.

    Returns:
        Tensor of the rows' shape and dtype.
    """
    grid = Grid(*numbers)
    chances = None if draws is None else uniforms_of_words(draws)
    rounded = round_reference(rows / torch.where(scale > 0, scale, 1.0), grid, chances)
    return scale_back(rounded, scale, grid, most) if back else rounded


def _scales(codes: Tensor, rows: Tensor, block: int) -> Tensor:
    return codes.to(torch.uint8).reshape(_scales_shape(rows, block))


def _scales_shape(rows: Tensor, block: int) -> tuple[int, int]:
    count, length = rows.shape
    return count, -(-length // each_of(length, block))


def _serves(rows: Tensor, *rest: Any) -> bool:
    return rows.dtype == torch.float32


def _serves_decoding(codes: Tensor, scales: Tensor, block: int, wide: bool, *rest: Any) -> bool:
    return not wide


def _serves_casting(rows: Tensor, scale: Tensor, draws: Tensor | None, *rest: Any) -> bool:
    return rows.dtype == torch.float32 and casts(Grid(*rest[2:]), draws is not None)


def _fake(rows: Tensor, draws: Tensor | None, block: int, *rest: Any) -> tuple[Tensor, Tensor]:
    scales = rows.new_empty(_scales_shape(rows, block), dtype=torch.uint8)
    return torch.empty_like(rows), scales


def _fake_codes(*arguments: Any) -> tuple[Tensor, Tensor]:
    values, scales = _fake(*arguments)
    return torch.empty_like(values, dtype=torch.uint8), scales


def _fake_values(codes: Tensor, scales: Tensor, block: int, wide: bool, *rest: Any) -> Tensor:
    return torch.empty_like(codes, dtype=torch.float64 if wide else torch.float32)


mx_quantize = Operation(
    "mx_quantize",
    f"(Tensor rows, Tensor? draws, int block, float most, {RULE}, {GRID}) -> (Tensor, Tensor)",
    quantize_reference,
    cpu="rung.kernels.cpu.mx:quantize",
    gpu="rung.kernels.gpu.mx:mx_quantize",
    serves=_serves,
    fake=_fake,
)
mx_encode = Operation(
    "mx_encode",
    f"(Tensor rows, Tensor? draws, int block, {RULE}, {GRID}) -> (Tensor, Tensor)",
    encode_reference,
    cpu="rung.kernels.cpu.mx:encode",
    gpu="rung.kernels.gpu.mx:mx_encode",
    serves=_serves,
    fake=_fake_codes,
)
mx_decode = Operation(
    "mx_decode",
    f"(Tensor codes, Tensor scales, int block, bool wide, {GRID}) -> Tensor",
    decode_reference,
    cpu="rung.kernels.cpu.mx:decode",
    gpu="rung.kernels.gpu.mx:mx_decode",
    serves=_serves_decoding,
    fake=_fake_values,
)
minifloat_cast = Operation(
    "minifloat_cast",
    f"(Tensor rows, Tensor scale, Tensor? draws, bool back, float most, {GRID}) -> Tensor",
    cast_reference,
    cpu="rung.kernels.cpu.mx:cast",
    gpu="rung.kernels.gpu.mx:minifloat_cast",
    serves=_serves_casting,
    fake=lambda rows, *rest: torch.empty_like(rows),
)
