"""LNS codes on the CPU: one pass per group, a table lookup and a comparison per element.

A float32's exponent and first mantissa bits name a bin so narrow that at most one rounding boundary
lies in it; a table gives the boundary and the result on its two sides. The table of a group holds
the boundaries as float32 bit patterns, made from its scale in exact integers (`log_boundary`).
Equal to the reference in `lns` bit for bit.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung.kernels.lns import (
    Grid,
    code_dtype,
    decode_reference,
    join,
    power_table,
    shift_codes,
)
from rung.kernels.log_boundary import boundary_limbs

_DTYPES = (torch.float32, torch.uint8, torch.int16)


def usable(*tensors: Tensor) -> bool:
    """Whether these are plain tensors of codes or float32 on the CPU, outside any tracing."""
    # Tensors of torch.func's transforms call themselves plain and have no memory to read.
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return all(type(t) is Tensor and t.device.type == "cpu" and t.dtype in _DTYPES for t in tensors)


def largest_magnitudes(rows: Tensor) -> Tensor:
    """Largest |x| of each row, float32 of shape (groups, 1); NaN or infinite where x is."""
    largest = torch.empty(rows.shape[0], dtype=torch.float32, device="cpu")
    _kernels()["largest"](_bits(rows), _bits(largest))
    return largest.unsqueeze(1)


def quantize(rows: Tensor, scale: Tensor, grid: Grid, draws: Tensor | None = None) -> Tensor:
    """Values on the rungs; arguments and semantics of `lns.encode_reference`, and of decoding.

    A group whose scale is NaN becomes NaN.
    """
    out = torch.empty_like(rows)
    _run(rows, scale, grid, draws, 0, out)
    return out


def encode(rows: Tensor, scale: Tensor, grid: Grid, draws: Tensor | None = None) -> Tensor:
    """Stored codes; arguments and semantics of `lns.encode_reference`."""
    out = torch.empty_like(rows)
    _run(rows, scale, grid, draws, grid.bits, out)
    return out.view(torch.int32).to(code_dtype(grid.bits))


def decode(codes: Tensor, scale: Tensor, grid: Grid, drop: int = 0) -> Tensor:
    """Values of stored codes, or of their shift by `drop` bits; one table lookup an element.

    Args:
        codes: Stored codes, any shape; of grid.bits + drop bits.
        scale: Value of the largest code of `grid`, float32, broadcastable to the codes.
        grid: The format to decode.
        drop: Low bits to round away first, see `shift_codes`.

    Returns:
        float32 tensor of the codes' shape, equal to `lns.decode_reference`.
    """
    out = torch.empty(codes.shape, dtype=torch.float32, device="cpu")
    flat = codes.detach().contiguous().reshape(-1)
    _kernels()["take"](flat.numpy(), _value_table(grid, drop), out.reshape(-1).numpy())
    return out.mul_(scale)


@functools.cache
def _value_table(grid: Grid, drop: int) -> Any:
    """float32 value of every bit pattern of a code at scale 1."""
    bits = grid.bits + drop
    # Device and dtype by name: the process may have other defaults.
    patterns = torch.arange(1 << bits, dtype=torch.int32, device="cpu")
    fine = join(patterns & ((1 << (bits - 1)) - 1), patterns >= 1 << (bits - 1), bits)
    codes = shift_codes(fine, bits, drop)
    one = torch.ones((), dtype=torch.float32, device="cpu")
    return decode_reference(codes, one, grid).numpy()


def _run(
    rows: Tensor, scale: Tensor, grid: Grid, draws: Tensor | None, code_bits: int, out: Tensor
) -> None:
    numbers = (grid.base_factor, grid.last, int(grid.zero), int(grid.flush), code_bits)
    powers = power_table(grid, rows, torch.float32).numpy()
    wide = power_table(grid, rows, torch.float64).numpy()
    chances = np.empty((rows.shape[0], 0), np.float32) if draws is None else draws.numpy()
    _kernels()["round"](
        _bits(rows),
        _bits(scale.reshape(-1)),
        powers,
        *map(np.int64, numbers),
        *_limbs(),
        chances,
        wide,
        _bits(out),
    )


def _bits(tensor: Tensor) -> Any:
    return tensor.detach().view(torch.int32).numpy()


@functools.cache
def _limbs() -> tuple[Any, Any]:
    high, low = (np.array(limbs, dtype=np.int64) for limbs in boundary_limbs())
    return high, low


@functools.cache
def _kernels() -> dict[str, Callable[..., None]]:
    """The numba kernels, compiled on first use or loaded from numba's disk cache."""
    from rung.kernels.cpu import lns_loops

    return {
        "largest": lns_loops.largest,
        "round": lns_loops.round_rows,
        "take": lns_loops.take,
    }
