"""Blocks with shared power-of-two scales on the CPU, fused: equal to the reference bit for bit.

The reference is `rung.kernels.minifloat` and `rung.kernels.mx`.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung.kernels.cpu.lns import largest_magnitudes, usable
from rung.kernels.minifloat import Grid, native_dtype, value_table
from rung.kernels.mx import Rule

__all__ = [
    "cast",
    "casts",
    "decode_blocks",
    "encode_blocks",
    "largest_magnitudes",
    "quantize_blocks",
    "usable",
]


def quantize_blocks(
    rows: Tensor,
    block: int,
    rule: Rule,
    grid: Grid,
    draws: Tensor | None = None,
    most: float = torch.finfo(torch.float32).max,
) -> tuple[Tensor, int]:
    """Values of blocks along the rows.

    Args:
        rows: (n, length), float32, contiguous.
        block: Elements of a block; the last of a row may be shorter.
        rule: Of the scales.
        grid: Of the elements; saturating, at most 8 bits.
        draws: Uniforms of the rows' shape for stochastic rounding, or None.
        most: Largest magnitude of a result.

    Returns:
        Values in the rows' shape, and the number of blocks that held NaN or infinity and are NaN.
    """
    out = torch.empty_like(rows)
    bad = _kernels()["quantize"](
        _flat(rows),
        _chances(draws),
        *_block_numbers(rows, block, rule),
        *_numbers(grid),
        np.float32(0.0 if grid.fixed else -0.0),
        np.float32(most),
        _flat(out),
    )
    return out, int(bad)


def encode_blocks(
    rows: Tensor, block: int, rule: Rule, grid: Grid, draws: Tensor | None = None
) -> tuple[Tensor, Tensor, int]:
    """Codes in the rows' shape, scale codes (n, blocks), blocks that are not finite; uint8.

    Arguments of `quantize_blocks`.
    """
    codes = torch.empty(rows.shape, dtype=torch.uint8, device="cpu")
    blocks = -(-rows.shape[1] // block)
    scales = torch.empty((rows.shape[0], blocks), dtype=torch.uint8, device="cpu")
    bad = _kernels()["encode"](
        _flat(rows),
        _chances(draws),
        *_block_numbers(rows, block, rule),
        *_numbers(grid),
        np.int32(grid.bits),
        grid.fixed,
        _flat(codes),
        _flat(scales),
    )
    return codes, scales, int(bad)


def decode_blocks(codes: Tensor, scales: Tensor, block: int, grid: Grid) -> Tensor:
    """float32 values of codes (n, length) with scale codes (n, blocks), both contiguous uint8.

    Raises:
        TypeError: Codes or scale codes of another type: the loops read a table at them.
    """
    if not codes.dtype == scales.dtype == torch.uint8:
        raise TypeError(
            f"Codes and scale codes must be uint8; got {codes.dtype} and {scales.dtype}."
        )
    out = torch.empty(codes.shape, dtype=torch.float32, device="cpu")
    _kernels()["decode"](
        _flat(codes),
        _flat(scales),
        _byte_table(grid),
        np.uint64(codes.shape[1]),
        _length(codes, block),
        _flat(out),
    )
    return out


def casts(grid: Grid, rows: Tensor, scale: Tensor, stochastic: bool) -> bool:
    """Whether `cast` can round these: plain float32 on the CPU, saturating."""
    if not (grid.saturate and grid.subnormals and grid.mantissa_bits and usable(rows, scale)):
        return False
    if not rows.dtype == scale.dtype == torch.float32:
        return False
    # Magic numbers and steps must be normal float32.
    inside = grid.largest < 2.0 ** (100 + grid.mantissa_bits) and grid.step >= -100
    return inside or (not stochastic and native_dtype(grid) is not None)


def cast(
    rows: Tensor,
    scale: Tensor,
    grid: Grid,
    draws: Tensor | None = None,
    back: bool = False,
    most: float = torch.finfo(torch.float32).max,
) -> Tensor:
    """Rows over their scales, on the grid. NaN and infinity may become anything.

    Args:
        rows: (n, length), float32, contiguous.
        scale: (n, 1), float32; NaN counts as 1.
        grid: One that `casts`.
        draws: Uniforms of the rows' shape for stochastic rounding, or None.
        back: Put the scale back (a row of scale NaN then is NaN).
        most: Largest magnitude of a result with `back`.
    """
    native = native_dtype(grid)
    if native is not None and draws is None:
        scaled = rows / torch.where(scale > 0, scale, 1.0)
        bounded = scaled.clamp_(-grid.largest, grid.largest).to(native).float()
        return bounded.mul_(scale).clamp_(-most, most) if back else bounded
    out = torch.empty_like(rows)
    _kernels()["cast"](
        _flat(rows),
        _flat(scale.contiguous()),
        _chances(draws),
        *_numbers(grid),
        np.float32(0.0 if grid.fixed else -0.0),
        back,
        np.float32(most),
        _flat(out),
    )
    return out


@functools.cache
def _byte_table(grid: Grid) -> Any:
    """Values of all 256 bytes: those that are no code are NaN, and not what lies behind a table."""
    table = np.full(256, np.nan, np.float32)
    table[: 1 << grid.bits] = value_table(grid).numpy()
    return table


def _flat(tensor: Tensor) -> Any:
    return tensor.detach().reshape(-1).numpy()


def _chances(draws: Tensor | None) -> Any:
    return np.empty(0, np.float32) if draws is None else _flat(draws)


def _length(rows: Tensor, block: int) -> Any:
    """Of a block; no longer than a row, which any integer may exceed."""
    return np.uint64(min(block, max(1, rows.shape[1])))


def _block_numbers(rows: Tensor, block: int, rule: Rule) -> tuple[Any, ...]:
    reach = rule.fraction * 2**24  # a significand of 24 bits from here on goes up
    threshold = int(reach) + (not (rule.inclusive and reach == int(reach)))
    width = np.uint64(rows.shape[1])
    return width, _length(rows, block), np.int64(rule.emax), np.int64(threshold)


def _numbers(grid: Grid) -> tuple[Any, ...]:
    lowest, mantissa = (grid.lowest + 127) << 23, grid.mantissa_bits << 23
    return np.int32(lowest), np.int32(mantissa), np.float32(grid.largest)


@functools.cache
def _kernels() -> dict[str, Callable[..., Any]]:
    """The numba kernels, compiled on first use or loaded from numba's disk cache."""
    from rung.kernels.cpu import mx_loops

    return {name: getattr(mx_loops, name) for name in ("quantize", "encode", "decode", "cast")}
