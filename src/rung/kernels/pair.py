"""Codes of two ladders on plain tensors: W = scale * knee / 2 * (exp(k+ h) - exp(k- h)).

A code of B bits is two numbers of B/2 bits: the upper is k+ + K, the lower k- + K, where
K = 2^(B/2 - 1) - 1. On k- = -k+ values are those of the sinh ladder of B/2 bits. Storage is that of
`ladder`.
"""

import functools
from decimal import Decimal, localcontext

import torch
from torch import Tensor

from rung.kernels import group_scales
from rung.kernels.dispatch import Operation
from rung.kernels.ladder import load_codes
from rung.kernels.sinh import top_of
from rung.kernels.sinh_tables import DIGITS, asinh


def split(codes: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """(k+, k-) of codes, int32 in [0, 2^bits); the pattern that stands for nothing is K + 1."""
    half = bits // 2
    top = top_of(half)
    return (codes >> half) - top, (codes & ((1 << half) - 1)) - top


def join(plus: Tensor, minus: Tensor, bits: int) -> Tensor:
    """The inverse of `split`: int32 codes of k+ and k-, int32 in [-K, K]."""
    half = bits // 2
    top = top_of(half)
    return ((plus + top) << half) | (minus + top)


@functools.cache
def values(bits: int, knee: float) -> tuple[float, ...]:
    """Value of each of the 2^bits codes at scale 1, in decimal arithmetic and rounded once.

    A half's last pattern decodes like its top rung.
    """
    half = bits // 2
    top = top_of(half)
    with localcontext() as context:
        context.prec = DIGITS
        h = asinh(1 / Decimal(knee)) / top
        powers = [(h * k).exp() for k in range(-top, top + 1)]
        powers.append(powers[-1])
        middle = Decimal(knee) / 2
        return tuple(float(middle * (plus - minus)) for plus in powers for minus in powers)


# Constants of a traced graph are made outside of it; see `ladder.boundary_table`.
def _table(bits: int, knee: float, device: torch.device) -> Tensor:
    return _cached_table(bits, knee, device)


_table._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _cached_table(bits: int, knee: float, device: torch.device) -> Tensor:
    return torch.tensor(values(bits, knee), dtype=torch.float64, device="cpu").to(device)


def value_table(bits: int, knee: float, like: Tensor) -> Tensor:
    """Value of every code at scale 1; float64, shape (2^bits,), on the device of `like`."""
    return _table(bits, knee, like.device)


def decode_reference(codes: Tensor, scale: Tensor, bits: int, knee: float, block: int) -> Tensor:
    """Values of stored codes.

    Args:
        codes: Stored codes of any shape.
        scale: W_max, broadcastable to the codes; of shape (..., blocks) with `block`.
        bits: B, of both codes together.
        knee: As a fraction of the scale.
        block: Length of blocks along the last dimension, or 0.

    Returns:
        Tensor of the codes' shape and the scale's dtype.
    """
    if block:
        length = codes.shape[-1]
        each = group_scales.each_of(length, block)
        scale = scale.repeat_interleave(each, dim=-1)[..., :length]
    table = value_table(bits, knee, codes).to(scale.dtype)
    return table.index_select(0, load_codes(codes).reshape(-1)).reshape(codes.shape) * scale


pair_decode = Operation(
    "pair_decode",
    "(Tensor codes, Tensor scale, int bits, float knee, int block) -> Tensor",
    decode_reference,
    cpu="rung.kernels.cpu.pair:decode",
    serves=lambda codes, scale, *rest: scale.dtype == torch.float32,
    fake=lambda codes, scale, *rest: scale.new_empty(codes.shape),
)
