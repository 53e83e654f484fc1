"""Sums of products of LNS codes, bit for bit as a processing element of integers computes them.

    from rung.hardware import datapath
    sums = datapath.matmul(a_codes, b_codes, datapath.Datapath(dropped_bits=9))

docs/datapath.md draws the element and defines each of its numbers.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from rung.formats import LNS, Encoded
from rung.hardware import _windows
from rung.hardware._design import (
    CONVERSIONS,
    OVERFLOWS,
    WIDEST,
    Datapath,
    divisors,
    require_width,
)
from rung.kernels import datapath as kernel


class Sums(NamedTuple):
    """What a datapath has computed.

    Attributes:
        values: int64, in units of 2^-fraction_bits products of the smallest exponents.
        overflows: int64 of the same shape: additions that left their bin's range.
    """

    values: Tensor
    overflows: Tensor


def dot(a_codes: Tensor, b_codes: Tensor, datapath: Datapath) -> Tensor:
    """`matmul` of two vectors of shape (K,): 0-d int64."""
    for name, codes in (("a_codes", a_codes), ("b_codes", b_codes)):
        if codes.ndim != 1:
            raise ValueError(f"`{name}` must have one dimension; got shape {tuple(codes.shape)}.")
    return matmul(a_codes[None], b_codes[:, None], datapath)[0, 0]


def matmul(a_codes: Tensor, b_codes: Tensor, datapath: Datapath) -> Tensor:
    """The integers that the datapath writes out for a matrix product.

    Equal in every bit on every device and for every number of threads.

    Args:
        a_codes: LNS codes of shape (M, K), uint8 or int16: sign in the top bit, exponent below.
        b_codes: Of shape (K, N) and the same dtype.
        datapath: The design.

    Returns:
        int64 of shape (M, N), in units of 2^-fraction_bits at the smallest exponents, before
        scales; `to_float` gives the numbers.

    Raises:
        ValueError: Shapes that don't go together; codes of another format.
        TypeError: Operands that are not tensors of uint8 or int16.
    """
    return matmul_counted(a_codes, b_codes, datapath).values


def matmul_counted(a_codes: Tensor, b_codes: Tensor, datapath: Datapath) -> Sums:
    """`matmul`, with the overflows of every output."""
    bits = code_bits(a_codes, b_codes, datapath)
    if a_codes.ndim != 2 or b_codes.ndim != 2 or a_codes.shape[1] != b_codes.shape[0]:
        raise ValueError(
            "`a_codes` and `b_codes` must have shapes (M, K) and (K, N); got "
            f"{tuple(a_codes.shape)} and {tuple(b_codes.shape)}."
        )
    design, length = datapath.design(bits), max(1, a_codes.shape[1])
    require_width(design, -(-length // (datapath.vector_length or length)))
    sums = kernel.matmul(
        a_codes, b_codes, *tables(design, a_codes.device), datapath.vector_length or length, *design
    )
    return Sums(*sums)


def linear(x_codes: Tensor, w_codes: Tensor, datapath: Datapath) -> Tensor:
    """``x W^T`` of codes of shapes (..., K) and (N, K); int64 of shape (..., N), see `matmul`."""
    if w_codes.ndim != 2:
        raise ValueError(f"`w_codes` must have shape (N, K); got {tuple(w_codes.shape)}.")
    rows = x_codes.flatten(0, -2) if x_codes.ndim > 1 else x_codes[None]
    return matmul(rows, w_codes.T, datapath).reshape(*x_codes.shape[:-1], w_codes.shape[0])


def conv2d(
    x_codes: Tensor,
    w_codes: Tensor,
    datapath: Datapath,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """A convolution of codes; products are added in the order channel, row, column.

    Padding adds no products: an LNS has no code for 0.

    Args:
        x_codes: Shape (batch, in, height, width).
        w_codes: Shape (out, in / groups, kernel height, kernel width).
        datapath: The design.
        stride: As in ``torch.nn.functional.conv2d``, like the next three.
        padding: Rows and columns without products on each side.
        dilation: Distance of a kernel's taps.
        groups: Blocks of channels.

    Returns:
        int64 of shape (batch, out, height', width'), see `matmul`.

    Raises:
        ValueError: Shapes that don't go together; a stride or dilation below 1, negative padding or
            words for it; groups that don't divide the channels; codes of another format.
        TypeError: Operands that are not tensors of uint8 or int16.
    """
    code_bits(x_codes, w_codes, datapath)
    return _windows.convolve(
        lambda a, b: matmul(a, b, datapath), x_codes, w_codes, stride, padding, dilation, groups
    )


def to_float(sums: Tensor, datapath: Datapath, fmt: LNS, a: Encoded, b: Encoded) -> Tensor:
    """The numbers that a datapath's integers stand for, float64.

    Args:
        sums: int64, of `matmul` and the like.
        datapath: The design.
        fmt: The format of both operands.
        a: The first operand, for its scale: 0-d, or broadcastable to the sums.
        b: The second.

    Raises:
        ValueError: The format is not the datapath's.
    """
    ours, theirs = (datapath.base_factor, datapath.zero), (fmt.base_factor, fmt.zero)
    if ours != theirs:
        raise ValueError(
            "`fmt` must have the datapath's base_factor and zero, "
            f"{ours}; got {theirs}. Decode with the format that the codes were made with."
        )
    smallest = math.pow(2.0, -(fmt.levels - 1) / fmt.base_factor)
    first, second = (x.scale.to(torch.float64) * smallest for x in (a, b))
    return sums.to(torch.float64) * 2.0**-datapath.fraction_bits * first * second


def code_bits(a_codes: Tensor, b_codes: Tensor, datapath: Datapath) -> int:
    """B of two operands' codes; refuses what can't be codes of the design's format."""
    for name, codes in (("a_codes", a_codes), ("b_codes", b_codes)):
        if not isinstance(codes, Tensor) or codes.dtype not in (torch.uint8, torch.int16):
            got = codes.dtype if isinstance(codes, Tensor) else type(codes).__name__
            raise TypeError(
                f"`{name}` must be a tensor of LNS codes, uint8 or int16; got {got}. Encode "
                "numbers first: rung.formats.get('lns8').encode(x).codes."
            )
    if a_codes.dtype != b_codes.dtype:
        raise ValueError(
            f"both operands must be in one format; got codes of {a_codes.dtype} and "
            f"{b_codes.dtype}. Encode both with the same bits."
        )
    widest = 8 if a_codes.dtype == torch.uint8 else 16
    bits = datapath.bits or widest
    if bits > widest or (widest == 16 and bits <= 8):
        raise ValueError(
            f"codes of {bits} bits are stored as {'uint8' if bits <= 8 else 'int16'}; got "
            f"{a_codes.dtype}. These are codes of another format than the datapath's bits={bits}."
        )
    for name, codes in (("a_codes", a_codes), ("b_codes", b_codes)):
        if bits == widest or not codes.numel():
            continue
        low, high = (int(number) for number in codes.aminmax())
        if low < 0 or high >= 1 << bits:
            raise ValueError(
                f"`{name}` must be codes of bits={bits}, from 0 to {(1 << bits) - 1}; got {low} to "
                f"{high}. These are codes of another format."
            )
    return bits


def tables(design: kernel.Design, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Magnitudes, bins and constants on a device."""
    sizes, bins, constants = _tables(design)
    return sizes.to(device), bins.to(device), constants.to(device)


@lru_cache(maxsize=64)
def _tables(design: kernel.Design) -> tuple[Tensor, Tensor, Tensor]:
    return kernel.tables(design)


__all__ = [
    "CONVERSIONS",
    "OVERFLOWS",
    "WIDEST",
    "Datapath",
    "Sums",
    "code_bits",
    "conv2d",
    "divisors",
    "dot",
    "linear",
    "matmul",
    "matmul_counted",
    "tables",
    "to_float",
]
