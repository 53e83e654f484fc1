"""Ladder codes on plain tensors: W = sign * scale * exp(-k * base_precision).

Codes are stored in uint8 up to 8 bits and in int16 above; 16-bit codes use all 65,536 patterns of
int16, so `load_codes` and `store_codes` are the only places that know the storage.
"""

import functools
import math

import torch
from torch import Tensor

from rung.kernels.draws import encode_draws, uniforms
from rung.kernels.ladder_boundary import boundaries


def code_dtype(bits: int) -> torch.dtype:
    """The storage of one code: uint8 up to 8 bits, int16 above."""
    return torch.uint8 if bits <= 8 else torch.int16


def load_codes(stored: Tensor) -> Tensor:
    """Stored codes as int32 in [0, 2^bits)."""
    codes = stored.to(torch.int32)
    return codes if stored.dtype == torch.uint8 else codes & 0xFFFF


def store_codes(codes: Tensor, bits: int) -> Tensor:
    """int32 codes in [0, 2^bits) in their storage dtype."""
    if bits == 16:  # 32768 ... 65535 take the negative patterns of int16.
        codes = torch.where(codes >= 2**15, codes - 2**16, codes)
    return codes.to(code_dtype(bits))


@functools.cache
def _rung_table(
    bits: int, base_precision: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    # Rungs come from double precision once, so that no backend's exp decides a bit.
    rungs = [math.exp(-k * base_precision) for k in range(2**bits)]
    return torch.tensor(rungs, dtype=torch.float64).to(device=device, dtype=dtype)


def rung_table(bits: int, base_precision: float, like: Tensor, dtype: torch.dtype) -> Tensor:
    """exp(-k * base_precision) for every code k; shape (2^bits,), on the device of `like`."""
    if type(like) is Tensor:
        return _rung_table(bits, base_precision, dtype, like.device)
    # A cached real tensor can't enter a traced graph: compute the table inside it.
    k = torch.arange(2**bits, dtype=torch.float64, device=like.device)
    return torch.exp(-base_precision * k).to(dtype)


def _boundary_table(bits: int, base_precision: float, device: torch.device) -> Tensor:
    return _cached_boundary_table(bits, base_precision, device)


# As torch.compiler.assume_constant_result does, which imports all of torch's compiler: 2 s.
_boundary_table._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _cached_boundary_table(bits: int, base_precision: float, device: torch.device) -> Tensor:
    ends = torch.tensor(boundaries(bits, base_precision), dtype=torch.float64, device="cpu")
    return ends.to(device)


def boundary_table(bits: int, base_precision: float, like: Tensor) -> Tensor:
    """Where the rung of each code ends, as a fraction of the scale; float64, (2^bits,)."""
    table: Tensor = _boundary_table(bits, base_precision, like.device)
    return table


def decode_magnitudes(stored: Tensor, scale: Tensor, bits: int, base_precision: float) -> Tensor:
    """|W| from stored codes.

    Args:
        stored: Codes of any shape, uint8 or int16.
        scale: W_max, float32 or float64, 0-d or broadcastable to the codes.
        bits: B.
        base_precision: eta0, change of ln|W| per rung.

    Returns:
        Tensor of the codes' shape and the scale's dtype.
    """
    table = rung_table(bits, base_precision, stored, scale.dtype)
    rungs = table.index_select(0, load_codes(stored).reshape(-1)).reshape(stored.shape)
    return rungs * scale


def encode_magnitudes(
    magnitudes: Tensor,
    scale: Tensor,
    bits: int,
    base_precision: float,
    key: Tensor | None = None,
    offset: int = 0,
) -> Tensor:
    """Codes of the rungs next to given magnitudes.

    Nearest rounding is in the log domain, decided by the boundaries of `ladder_boundary`.
    Stochastic rounding is that of `stochastic_codes`. Magnitudes above the top rung get code 0,
    those under the bottom rung (zero included) the last.

    Args:
        magnitudes: Non-negative and finite, any shape.
        scale: W_max, broadcastable to the magnitudes.
        bits: B.
        base_precision: eta0.
        key: 0-d int64 tensor for stochastic rounding; None rounds to nearest.
        offset: Flat index of the first element in its stream of random numbers.

    Returns:
        int32 codes in [0, 2^bits), of the magnitudes' shape.
    """
    last, sizes, tops = 2**bits - 1, magnitudes.double(), scale.double()
    position = -torch.log(sizes / tops) / base_precision
    # The logarithm only has to name the right boundary, k + 1/2, to within half a rung.
    k = torch.floor(position.clamp(0, last)).to(torch.int64)
    ends = boundary_table(bits, base_precision, magnitudes)
    nearest = k + (sizes < ends[k] * tops).to(torch.int64)
    if key is None:
        return nearest.to(torch.int32)
    draws = encode_draws(key, offset, magnitudes.numel()).reshape(magnitudes.shape)
    return stochastic_codes(magnitudes, scale, nearest, bits, base_precision, draws)


def stochastic_codes(
    magnitudes: Tensor,
    scale: Tensor,
    nearest: Tensor,
    bits: int,
    base_precision: float,
    draws: Tensor,
) -> Tensor:
    """One of the two decoded neighbours of each magnitude, from its nearest code; int32.

    With the odds that make the decoded value's mean equal to the magnitude. Every step is one
    operation of the scale's dtype, so that all implementations agree.
    """
    x, table = magnitudes.to(scale.dtype), rung_table(bits, base_precision, scale, scale.dtype)
    near = table[nearest] * scale
    other = torch.where(x < near, nearest + 1, nearest - 1).clamp(0, 2**bits - 1)
    far = table[other] * scale
    under, over = torch.minimum(near, far), torch.maximum(near, far)
    up = uniforms(draws, scale.dtype) * (over - under) < x - under
    codes = torch.where(up, torch.minimum(nearest, other), torch.maximum(nearest, other))
    return codes.to(torch.int32)
