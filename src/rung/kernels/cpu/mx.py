"""Blocks with shared power-of-two scales on the CPU, and rows of small floats.

Equal bit for bit to the references in `rung.kernels.mx_round`, whose arguments these take.
"""

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung.kernels.cpu import mx_loops
from rung.kernels.cpu.memory import empty
from rung.kernels.cpu.threads import GRAIN, run, split
from rung.kernels.minifloat import Grid, native_dtype, value_table
from rung.kernels.mx import Rule

_LANES = 16
# Results beyond this many elements are out of the cache before anyone reads them.
_STREAMED = 2**22
_WORD = np.int32(0)
_VALUES, _CODES = (np.int32(0), None), (np.uint8(0), 1)


def quantize(
    rows: Tensor, draws: Tensor | None, block: int, most: float, *numbers: Any
) -> tuple[Tensor, Tensor]:
    """`mx_round.quantize_reference` of float32."""
    return _round(rows, draws, block, most, numbers, torch.float32)


def encode(rows: Tensor, draws: Tensor | None, block: int, *numbers: Any) -> tuple[Tensor, Tensor]:
    """`mx_round.encode_reference` of float32."""
    return _round(rows, draws, block, 0.0, numbers, torch.uint8)


def _round(
    rows: Tensor,
    draws: Tensor | None,
    block: int,
    most: float,
    numbers: tuple[Any, ...],
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    (count, length), size = rows.shape, rows.numel()
    out, each = empty(rows.shape, dtype), min(block, length) or 1
    blocks = -(-length // each)
    scales = torch.empty((count, blocks), dtype=torch.uint8, device="cpu")
    if not size:
        return out, scales
    streamed = dtype == torch.float32 and _streams(out, size, length, each)
    draws = None if draws is None else draws.contiguous()
    drawn = (0, None) if draws is None else (draws.data_ptr(), _WORD)
    addresses = (rows.data_ptr(), scales.data_ptr(), out.data_ptr(), drawn[0])
    layout = (size, length, each, int(streamed))
    rule, grid = _rule(numbers[:3]), _grid(numbers[3:])
    kind = _VALUES if dtype == torch.float32 else _CODES

    def work(first: int, end: int) -> None:
        mx_loops.round_blocks(addresses, first, end, layout, rule, grid, most, drawn[1], *kind)

    run(work, split(count * blocks, 1, max(1, GRAIN // each)))
    return out, scales


def decode(codes: Tensor, scales: Tensor, block: int, _wide: bool, *numbers: Any) -> Tensor:
    """`mx_round.decode_reference` to float32.

    Raises:
        TypeError: Codes or scale codes of another type: the loops read a table at them.
    """
    if not codes.dtype == scales.dtype == torch.uint8:
        raise TypeError(
            f"Codes and scale codes must be uint8; got {codes.dtype} and {scales.dtype}."
        )
    (count, length), size = codes.shape, codes.numel()
    out, each = empty(codes.shape, torch.float32), min(block, length) or 1
    addresses = (codes.data_ptr(), scales.data_ptr(), out.data_ptr())
    layout, table = (size, length, each, int(_streams(out, size, length, each))), _table(numbers)

    def work(first: int, end: int) -> None:
        mx_loops.decode(addresses, first, end, layout, table)

    if size:
        run(work, split(count * -(-length // each), 1, max(1, GRAIN // each)))
    return out


def _streams(out: Tensor, size: int, length: int, each: int) -> bool:
    return size >= _STREAMED and (length | each) % _LANES == 0 and out.data_ptr() % 64 == 0


def cast(
    rows: Tensor, scale: Tensor, draws: Tensor | None, back: bool, most: float, *numbers: Any
) -> Tensor:
    """`mx_round.cast_reference` of float32, for a grid that `minifloat.casts`."""
    native = native_dtype(Grid(*numbers))
    if native is not None and draws is None:
        largest = numbers[3]
        scaled = rows / torch.where(scale > 0, scale, 1.0)
        bounded = scaled.clamp_(-largest, largest).to(native).float()
        return bounded.mul_(scale).clamp_(-most, most) if back else bounded
    out, size = empty(rows.shape, torch.float32), rows.numel()
    if not size:
        return out
    scale, draws = scale.contiguous(), None if draws is None else draws.contiguous()
    drawn = (0, None) if draws is None else (draws.data_ptr(), _WORD)
    addresses = (rows.data_ptr(), scale.data_ptr(), out.data_ptr(), drawn[0])
    count, length = rows.shape
    grid, layout, bound = _grid(numbers), (size, length), most if back else math.inf

    def work(first: int, end: int) -> None:
        touched = (first // length, -(-end // length))
        mx_loops.cast(addresses, touched, (first, end), layout, grid, bound, drawn[1], back)

    run(work, split(size, _LANES))
    return out


@functools.cache
def _table(numbers: tuple[Any, ...]) -> Any:
    """Values of all 256 bytes: those that are no code are NaN, and not what lies behind a table."""
    table = np.full(256, np.nan, np.float32)
    table[: 1 << numbers[0]] = value_table(Grid(*numbers)).numpy()
    return table


@functools.cache
def _rule(numbers: tuple[Any, ...]) -> tuple[int, int]:
    """Exponent of the largest number, and from which significand of 24 bits on it goes up."""
    rule = Rule(*numbers)
    reach = rule.fraction * 2**24
    return rule.emax, int(reach) + (not (rule.inclusive and reach == int(reach)))


@functools.cache
def _grid(numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    """Smallest normal exponent and mantissa bits in the place of a float32's exponent, and others.

    The largest number, what to add to a value (-0 changes nothing, +0 takes the sign off zeros),
    bits, and whether codes are fixed point.
    """
    grid = Grid(*numbers)
    lowest, zero = (grid.lowest + 127) << 23, 0.0 if grid.fixed else -0.0
    return lowest, grid.mantissa_bits << 23, grid.largest, zero, grid.bits, int(grid.fixed)
