"""`rung.kernels.linear` on the CPU: tensors become the flat arrays that the loops take."""

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung.kernels.cpu import linear_loops as loops
from rung.kernels.cpu.linear_lanes import (
    TILE,
    exponent_tables,
    has_exponents,
    largest_exponent_value,
)
from rung.kernels.cpu.threads import run, split

# Codes that are worth a thread.
_GRAIN = 2**18


def linear_codes(
    x: Tensor, codes: Tensor, scale: Tensor, signs: Tensor, key: Tensor, *code: Any
) -> Tensor:
    """See `rung.kernels.linear`; at least one row of x, one scale or one a row."""
    height, width = codes.shape
    rows = x.detach().reshape(-1, width)
    batch = rows.shape[0]
    packed = _packed(rows)
    out = torch.empty((batch, height), dtype=torch.float32, device="cpu")
    weight = _weight(codes, signs, key, code)
    room = loops.ROWS * (loops.BLOCK + 16 * (1 if batch == 1 else packed.shape[0] * TILE))

    def work(top: int, bottom: int) -> None:
        loops.products(
            *weight, *_sign_scratch(codes, signs, code), _scales(scale, height, code).numpy(),
            packed.reshape(-1).numpy(), batch, width, _scratch(room), out.reshape(-1).numpy(),
            top, bottom,
        )  # fmt: skip

    run(work, split(height, loops.ROWS, max(loops.ROWS, _GRAIN // width)))
    return out.to(x.dtype).reshape(*x.shape[:-1], height)


def linear_codes_grad(
    grad: Tensor, codes: Tensor, scale: Tensor, signs: Tensor, key: Tensor, *code: Any
) -> Tensor:
    """See `rung.kernels.linear`; at least one row of grad, one scale or one a row."""
    height, width = codes.shape
    rows = grad.detach().reshape(-1, height)
    batch = rows.shape[0] + rows.shape[0] % 2
    scaled = torch.zeros((batch, -(-height // loops.ROWS) * loops.ROWS), device="cpu").float()
    torch.mul(rows.float(), _scales(scale, height, code), out=scaled[: rows.shape[0], :height])
    columns = -(-width // 16) * 16
    out = torch.zeros((batch, columns), dtype=torch.float32, device="cpu")
    weight = _weight(codes, signs, key, code)

    def work(start: int, stop: int) -> None:
        values = _scratch(loops.ROWS * loops.BLOCK)
        values[:] = 0
        loops.products_of_grad(
            *weight, *_sign_scratch(codes, signs, code), scaled.reshape(-1).numpy(), batch,
            height, width, values, out.reshape(-1).numpy(), start, stop,
        )  # fmt: skip

    run(work, split(columns, 16, max(16, _GRAIN // height)))
    result = out[: rows.shape[0], :width].to(grad.dtype).contiguous()
    return result.reshape(*grad.shape[:-1], width)


def _packed(rows: Tensor) -> Tensor:
    """float32 (groups of rows, times sixteen columns, row, column), with zeros for what is missing.

    One row stays one row.
    """
    batch, width = rows.shape
    across = 1 if batch == 1 else TILE
    groups, steps = -(-batch // across), -(-width // 16)
    if (groups * across, steps * 16) == (batch, width):
        filled = rows.float()
    else:
        filled = torch.zeros((groups * across, steps * 16), dtype=torch.float32, device="cpu")
        filled[:batch, :width] = rows
    return filled.reshape(groups, across, steps, 16).transpose(1, 2).contiguous()


def _scales(scale: Tensor, height: int, code: Any) -> Tensor:
    """One a row: what the largest code's value, as the loops make it, is to be multiplied by."""
    scales = scale.detach().reshape(-1).expand(height)
    if has_exponents(*code[:2]):
        return scales / largest_exponent_value(code[1])
    return scales.contiguous()


def _scratch(count: int) -> Any:
    # torch's memory begins at a multiple of 64 bytes, where vectors are read fastest.
    return torch.empty(count, dtype=torch.float32, device="cpu").numpy()


def _weight(codes: Tensor, signs: Tensor, key: Tensor, code: Any) -> tuple[Any, ...]:
    flat = codes.detach().contiguous().reshape(-1).numpy()
    return flat, signs.detach().numpy(), np.uint64(int(key) & (2**64 - 1)), _tables(*code)


def _sign_scratch(codes: Tensor, signs: Tensor, code: Any) -> tuple[Any, Any]:
    if code[1]:
        return None, np.empty(0, np.uint64)
    width = codes.shape[1]
    words = np.empty(loops.ROWS * -(-width // 16) + 16, np.uint16)
    return words, np.empty((loops.ROWS * width // 256 + 2) * 4 + 16, np.uint64)


@functools.cache
def _tables(bits: int, base_factor: int, base_precision: float) -> Any:
    """See `linear_lanes`; factors are at most 1 in magnitude."""
    if has_exponents(bits, base_factor):
        return exponent_tables(base_factor)
    used = (1 << (bits - 1 if base_factor else bits)) - 1
    factors = []
    for digit in range(2 if bits <= 8 else 4):
        for value in range(16):
            place = value << 4 * digit
            if base_factor:
                below = ((15 << 4 * digit) & used) - (place & used)
                size = 2.0 ** (-below / base_factor)
                factors.append(-size if place >> (bits - 1) & 1 else size)
            else:
                factors.append(math.exp(-(place & used) * base_precision))
    return np.array(factors, np.float32)
