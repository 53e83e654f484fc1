"""What accumulators of a datapath hold: how many bits it takes, and what too few of them do."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rung.hardware.datapath import Datapath, code_bits, matmul_counted
from rung.kernels import datapath as kernel

_WIDEST = 62
# Outputs times bins that are followed at a time: 8 bytes each, three times.
_PIECE = 2**20


@dataclass(frozen=True)
class PartialSums:
    """Bits that bins take, sign included, to hold what is added to them at any time.

    Attributes:
        bins: ``bins[w]`` bins take w bits; of every output, partial sum and constant. 1 bit holds
            0 and -1.
        outputs: ``outputs[w]`` outputs have a bin that takes w bits and none that takes more.
    """

    bins: tuple[int, ...]
    outputs: tuple[int, ...]

    def quantile(self, share: float) -> int:
        """Fewest accumulator bits at which this share of outputs, or more, has no overflow.

        Raises:
            ValueError: A share outside of 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"`share` must be from 0 to 1; got {share}.")
        total, held = sum(self.outputs), 0
        for width, count in enumerate(self.outputs):
            held += count
            if held and held >= share * total:
                return width
        return len(self.outputs) - 1

    def overflowing(self, accumulator_bits: int) -> float:
        """Share of outputs that overflow accumulators of some bits, saturating or wrapping."""
        return sum(self.outputs[accumulator_bits + 1 :]) / max(1, sum(self.outputs))


@dataclass(frozen=True)
class Overflows:
    """Overflows of one matrix product at one width.

    Attributes:
        accumulator_bits: The width, sign included.
        outputs: Share of outputs of which any addition overflowed.
        additions: Additions that overflowed.
        share: Of all additions.
    """

    accumulator_bits: int
    outputs: float
    additions: int
    share: float


def partial_sums(datapath: Datapath, a_codes: Tensor, b_codes: Tensor) -> PartialSums:
    """Follow every bin of every output, as if accumulators were wide enough.

    The design's `accumulator_bits` and `overflow` don't matter: up to the first overflow all
    contents are the same, so an output overflows at w bits if and only if it takes more here. Sums
    go product by product; a few rows and columns of a large matrix product are enough.

    Args:
        datapath: The design.
        a_codes: Shape (M, K), see `datapath.matmul`.
        b_codes: Shape (K, N).

    Raises:
        ValueError: Operands without elements, or that don't go together; sums beyond 62 bits.
    """
    bits = code_bits(a_codes, b_codes, datapath)
    _check_shapes(a_codes, b_codes)
    design = datapath.design(bits)
    depth = a_codes.shape[1]
    length = min(datapath.vector_length or depth, depth)
    needed = datapath.product_bits(bits) + (length - 1).bit_length()
    if needed > _WIDEST:
        raise ValueError(
            f"sums must take at most {_WIDEST} bits to be followed; got up to {needed} for "
            f"{length} products of {bits}-bit codes at base_factor={design.base_factor}. "
            f"Use dropped_bits={design.dropped_bits + needed - _WIDEST}."
        )
    every = [kernel.term(design, exponent) for exponent in range(2 * design.last + 1)]
    tables = tuple(torch.tensor(column) for column in zip(*every, strict=True))
    bins, outputs = torch.zeros(2, 64, dtype=torch.int64).unbind()
    a, b = (kernel.split(codes.cpu(), bits) for codes in (a_codes, b_codes))
    rows = max(1, _PIECE // (b_codes.shape[1] * design.table_size))
    for top in range(0, a_codes.shape[0], rows):
        part = tuple(operand[top : top + rows] for operand in a)
        widest = torch.zeros(part[0].shape[0], b_codes.shape[1], dtype=torch.int64)
        for start in range(0, depth, length):
            products = range(start, min(start + length, depth))
            widths = _widths(part, b, tables, design, products)
            bins += widths.flatten().bincount(minlength=64)
            widest = torch.maximum(widest, widths.amax(0))
        outputs += widest.flatten().bincount(minlength=64)
    return PartialSums(tuple(bins.tolist()), tuple(outputs.tolist()))


def overflows(
    datapath: Datapath, a_codes: Tensor, b_codes: Tensor, widths: Iterable[int] | None = None
) -> tuple[Overflows, ...]:
    """Count overflows at several accumulator widths.

    Args:
        datapath: The design.
        a_codes: Shape (M, K), see `datapath.matmul`.
        b_codes: Shape (K, N).
        widths: Accumulator bits; default: those of the design only.

    Returns:
        One `Overflows` a width.

    Raises:
        ValueError: As of `datapath.matmul`, and operands without elements.
    """
    code_bits(a_codes, b_codes, datapath)
    _check_shapes(a_codes, b_codes)
    found = []
    for width in (datapath.accumulator_bits,) if widths is None else tuple(widths):
        counts = matmul_counted(a_codes, b_codes, replace(datapath, accumulator_bits=width))[1]
        additions = int(counts.sum())
        share = additions / (counts.numel() * a_codes.shape[1])
        found.append(Overflows(width, float((counts > 0).double().mean()), additions, share))
    return tuple(found)


def smallest_accumulator(
    datapath: Datapath, a_codes: Tensor, b_codes: Tensor, share: float = 0.0
) -> int:
    """Fewest accumulator bits at which at most this share of outputs overflows.

    Args:
        datapath: The design; its own `accumulator_bits` don't matter.
        a_codes: Shape (M, K), see `datapath.matmul`.
        b_codes: Shape (K, N).
        share: Of outputs, 0 to 1.
    """
    _check_share(share)
    found = partial_sums(datapath, a_codes, b_codes)
    return next(w for w in range(len(found.outputs)) if found.overflowing(w) <= share)


def fewest_dropped_bits(
    datapath: Datapath, a_codes: Tensor, b_codes: Tensor, share: float = 0.0
) -> int:
    """Fewest dropped bits at which the design's accumulators overflow in at most this share.

    Args:
        datapath: The design; its own `dropped_bits` don't matter.
        a_codes: Shape (M, K), see `datapath.matmul`.
        b_codes: Shape (K, N).
        share: Of outputs, 0 to 1.

    Raises:
        ValueError: No number of dropped bits is enough.
    """
    _check_share(share)
    code_bits(a_codes, b_codes, datapath)
    _check_shapes(a_codes, b_codes)
    for dropped in range(48):
        design = replace(datapath, dropped_bits=dropped)
        if overflows(design, a_codes, b_codes)[0].outputs <= share:
            return dropped
    raise ValueError(
        f"accumulators of {datapath.accumulator_bits} bits overflow in more than a share of "
        f"{share:g} of outputs even with dropped_bits=47. Widen them."
    )


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"`share` must be from 0 to 1; got {share}.")


def _check_shapes(a: Tensor, b: Tensor) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or not a.numel() * b.numel():
        raise ValueError(
            "`a_codes` and `b_codes` must have shapes (M, K) and (K, N), none of them 0; got "
            f"{tuple(a.shape)} and {tuple(b.shape)}."
        )


def _widths(
    a: tuple[Tensor, ...],
    b: tuple[Tensor, ...],
    tables: tuple[Tensor, ...],
    design: kernel.Design,
    products: range,
) -> Tensor:
    """Bits that each bin takes for one partial sum: (table_size, M, N)."""
    (ea, sa), (eb, sb) = a, b
    sizes, bins = tables
    sums = torch.zeros(design.table_size, ea.shape[0], eb.shape[1], dtype=torch.int64)
    farthest = torch.zeros_like(sums)
    for k in products:
        exponent = ea[:, k, None] + eb[None, k]
        value = sizes[exponent] * sa[:, k, None] * sb[None, k]
        if design.zero:
            value = value * ((ea[:, k, None] > 0) & (eb[None, k] > 0))
        index = bins[exponent][None]
        sums.scatter_add_(0, index, value[None])
        now = sums.gather(0, index)
        # n and -n - 1 take the same bits: two's complement.
        size = torch.maximum(farthest.gather(0, index), torch.where(now < 0, ~now, now))
        farthest.scatter_(0, index, size)
    powers = torch.tensor([1 << k for k in range(_WIDEST)])
    return 1 + torch.bucketize(farthest, powers, right=True)
