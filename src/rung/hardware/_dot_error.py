"""Signal over error of dot products: what the format loses, and what the datapath adds to it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rung.formats import LNS
from rung.hardware.datapath import Datapath, matmul_counted, to_float

LENGTHS = tuple(2**k for k in range(13))
"""1, 2, 4 ... 4096."""


@dataclass(frozen=True)
class DotError:
    """Errors of the outputs of one matrix product, in dB.

    A ratio is 10 log10 of the sum of squares of the right values over that of the errors; infinite
    without any error.

    Attributes:
        length: Products of each output.
        outputs: How many there are.
        format_db: float64 products of decoded values, against those of the original values.
        datapath_db: The datapath, against float64 products of decoded values.
        total_db: The datapath, against float64 products of the original values.
        gain: Factor by which the datapath's outputs are too large, by least squares: 1 + x is
            never too small, and scales can take its mean out.
        corrected_db: `datapath_db` after division by the gain.
        overflows: Share of outputs of which an addition overflowed.
    """

    length: int
    outputs: int
    format_db: float
    datapath_db: float
    total_db: float
    gain: float
    corrected_db: float
    overflows: float


def dot_error(
    datapath: Datapath,
    fmt: LNS,
    lengths: Iterable[int] = LENGTHS,
    samples: int = 1024,
    seed: int = 0,
) -> tuple[DotError, ...]:
    """Errors of dots of normal numbers over their length.

    Args:
        datapath: The design.
        fmt: LNS in which both operands are encoded, with a scale for each row and column.
        lengths: Of dots.
        samples: Dots of each length, at least: those of a square matrix product.
        seed: Of the numbers, which are NORMAL(0, 1), for every length anew.

    Returns:
        One `DotError` a length.

    Raises:
        ValueError: Lengths or samples that are not positive; a format that the datapath isn't for.
        TypeError: Lengths or samples that are not integers.

    Example:
        >>> design = Datapath(accumulator_bits=32, dropped_bits=1)
        >>> error = dot_error(design, LNS(8, 8), lengths=[64], samples=256)[0]
        >>> error.datapath_db > error.format_db
        True
    """
    lengths = tuple(lengths)
    for name, values in (("lengths", lengths), ("samples", (samples,))):
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"`{name}` must be integers; got {value!r}.")
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1; got {value}.")
    side = math.isqrt(samples - 1) + 1
    errors = []
    for length in lengths:
        generator = torch.Generator().manual_seed(seed)
        a = torch.randn(side, length, generator=generator)
        b = torch.randn(length, side, generator=generator)
        errors.append(matmul_error(datapath, fmt, a, b))
    return tuple(errors)


def matmul_error(datapath: Datapath, fmt: LNS, a: Tensor, b: Tensor) -> DotError:
    """Errors of the product of two given matrices.

    Args:
        datapath: The design.
        fmt: LNS in which both are encoded, with a scale for each row of a and column of b.
        a: Real numbers of shape (M, K).
        b: Of shape (K, N).

    Raises:
        ValueError: Shapes that don't go together; a format that the datapath isn't for; numbers
            that aren't finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or not a.numel() * b.numel():
        raise ValueError(
            "`a` and `b` must have shapes (M, K) and (K, N), none of them 0; got "
            f"{tuple(a.shape)} and {tuple(b.shape)}."
        )
    design = for_format(datapath, fmt)
    x, y = fmt.encode(a, axis=0), fmt.encode(b, axis=1)
    sums = matmul_counted(x.codes, y.codes, design)
    original = a.to(torch.float64) @ b.to(torch.float64)
    # Scales of float64: decoded values of float32 would have errors of their own.
    left = fmt.decode_codes(x.codes, x.scale.to(torch.float64))
    right = fmt.decode_codes(y.codes, y.scale.to(torch.float64))
    decoded = left @ right
    computed = to_float(sums.values, design, fmt, x, y)
    power = float(decoded.square().sum())
    gain = float((computed * decoded).sum()) / power if power else 1.0
    return DotError(
        a.shape[1],
        computed.numel(),
        _decibels(original, decoded),
        _decibels(decoded, computed),
        _decibels(original, computed),
        gain,
        _decibels(decoded, computed / gain if gain else computed),
        float((sums.overflows > 0).double().mean()),
    )


def for_format(datapath: Datapath, fmt: LNS) -> Datapath:
    """The design for codes of a format.

    Raises:
        ValueError: Base factor, bits or zero of the two differ.
    """
    design = replace(datapath, bits=datapath.bits or fmt.bits)
    for name in ("base_factor", "bits", "zero"):
        ours, theirs = getattr(design, name), getattr(fmt, name)
        if ours != theirs:
            raise ValueError(
                f"datapath and format must have the same {name}; got {ours} and {theirs}. Use "
                f"dataclasses.replace(datapath, {name}={theirs})."
            )
    return design


def _decibels(right: Tensor, found: Tensor) -> float:
    signal, noise = float(right.square().sum()), float((found - right).square().sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
