"""Matrix products of LNS codes as an integer processing element computes them, bit for bit.

A code is a sign on top of an exponent e. A product of two is an addition of exponents,

    p = e_a + e_b = gamma q + r,    2^(p / gamma) = 2^q 2^(r / gamma)

which becomes an integer in three steps: what is left of the remainder r below the table's index
turns into a mantissa (1 + x for 2^x, Mitchell's), the mantissa is shifted by q, and the sum of all
that share a table entry, a bin, is multiplied by the entry's constant once. Bins are accumulators
of few bits: they overflow, and their lowest bits may be missing. `tables` writes all of that down
as numbers; the reference below adds them up in the processing element's order.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rung.kernels.dispatch import Operation


class Design(NamedTuple):
    """Numbers of a processing element.

    Args:
        bits: B of a code, sign included.
        base_factor: gamma, codes an octave.
        table_size: Constants, and bins: a power of two from 1 to gamma.
        fraction_bits: Of a constant.
        accumulator_bits: Width of a bin, sign included.
        dropped_bits: Lowest bits of a shifted mantissa that never reach its bin.
        wraps: Whether bins wrap around, else they saturate.
        zero: Whether exponent 0 stands for the number 0.
    """

    bits: int
    base_factor: int
    table_size: int
    fraction_bits: int
    accumulator_bits: int
    dropped_bits: int
    wraps: bool
    zero: bool

    @property
    def guard_bits(self) -> int:
        """Fraction bits of a mantissa: none if every remainder has a constant of its own."""
        return 0 if self.table_size == self.base_factor else self.base_factor.bit_length() - 1

    @property
    def last(self) -> int:
        """The largest exponent of a code."""
        return (1 << (self.bits - 1)) - 1


def constant(design: Design, index: int) -> int:
    """2^(index / table size), rounded to `fraction_bits`: exact, by whole numbers."""
    size = design.table_size
    power = 1 << (size * (design.fraction_bits + 1) + index)  # of twice the constant
    nearest: int = round(2.0 ** (design.fraction_bits + index / size))
    while (2 * nearest + 1) ** size <= power:
        nearest += 1
    while (2 * nearest - 1) ** size > power:
        nearest -= 1
    return nearest


def mantissa_and_bin(design: Design, remainder: int) -> tuple[int, int]:
    """What is shifted, in units of 2^-guard_bits, and whose constant it is multiplied by."""
    span = design.base_factor // design.table_size
    index, rest = divmod(remainder, span)
    return (1 << design.guard_bits) + (rest if design.guard_bits else 0), index


def term(design: Design, exponent: int) -> tuple[int, int]:
    """Of a sum of exponents: the magnitude that is added to a bin, and the bin."""
    shift, remainder = divmod(exponent, design.base_factor)
    mantissa, index = mantissa_and_bin(design, remainder)
    return (mantissa << shift) >> design.dropped_bits, index


def tables(design: Design) -> tuple[Tensor, Tensor, Tensor]:
    """`term` of every sum of two exponents, and the constants; int64.

    Magnitudes beyond a bin's range are cut to what leaves it in the same way.
    """
    room = 1 << design.accumulator_bits
    every = [term(design, exponent) for exponent in range(2 * design.last + 1)]
    sizes = [
        min(size, room + (size % room if design.wraps else 0)) if size >= room else size
        for size, _ in every
    ]
    constants = [constant(design, index) for index in range(design.table_size)]
    return torch.tensor(sizes), torch.tensor([index for _, index in every]), torch.tensor(constants)


def split(codes: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Exponents and signs (+1, -1) of stored codes, int64."""
    whole = codes.to(torch.int64)
    return whole & ((1 << (bits - 1)) - 1), 1 - 2 * ((whole >> (bits - 1)) & 1)


def reference(
    a: Tensor, b: Tensor, sizes: Tensor, bins: Tensor, constants: Tensor, vector_length: int,
    *numbers: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Add products one by one, as the processing element does.

    Args:
        a: Codes of shape (M, K): uint8, or int16 above 8 bits.
        b: Codes of shape (K, N).
        sizes: Of `tables`, like the next two.
        bins: Bin of every sum of exponents.
        constants: One a bin.
        vector_length: Products between two partial sums.
        numbers: The fields of `Design`.

    Returns:
        (sums, overflows), int64 of shape (M, N): sums in units of 2^-fraction_bits products of the
        smallest exponents; additions that left their bin's range.
    """
    design = Design(*numbers)
    (ea, sa), (eb, sb) = split(a, design.bits), split(b, design.bits)
    shape = (a.shape[0], b.shape[1])
    total, overflows = (torch.zeros(shape, dtype=torch.int64, device=a.device) for _ in range(2))
    sums = total.new_zeros(design.table_size, *shape)
    for k in range(a.shape[1]):
        exponent = ea[:, k, None] + eb[None, k]
        value = sizes[exponent] * sa[:, k, None] * sb[None, k]
        if design.zero:
            value = value * ((ea[:, k, None] > 0) & (eb[None, k] > 0))
        index = bins[exponent][None]
        wanted = sums.gather(0, index)[0] + value
        kept = within(wanted, design)
        overflows += kept != wanted
        sums.scatter_(0, index, kept[None])
        if (k + 1) % vector_length == 0 or k + 1 == a.shape[1]:
            total += partial_sum(sums, constants, design)
            sums.zero_()
    return total, overflows


def within(wanted: Tensor, design: Design) -> Tensor:
    """A bin's new content: at most a bin's largest and smallest numbers, or wrapped around."""
    half = 1 << (design.accumulator_bits - 1)
    if design.wraps:
        return ((wanted + half) & (2 * half - 1)) - half
    return wanted.clamp(-half, half - 1)


def partial_sum(sums: Tensor, constants: Tensor, design: Design) -> Tensor:
    """What is written out: bins times constants, in units of 2^-fraction_bits, rounded down."""
    total = (sums * constants[:, None, None]).sum(0)
    return (total << design.dropped_bits) >> design.guard_bits


def _serves(a: Tensor, b: Tensor, sizes: Tensor, *rest: Any) -> bool:
    return a.numel() > 0 and b.numel() > 0


matmul = Operation(
    "datapath_matmul",
    "(Tensor a, Tensor b, Tensor sizes, Tensor bins, Tensor constants, int vector_length, "
    "int bits, int base_factor, int table_size, int fraction_bits, int accumulator_bits, "
    "int dropped_bits, bool wraps, bool zero) -> (Tensor, Tensor)",
    reference,
    cpu="rung.kernels.cpu.datapath:matmul",
    gpu="rung.kernels.gpu.datapath:matmul",
    serves=_serves,
    fake=lambda a, b, *rest: tuple(
        a.new_empty((a.shape[0], b.shape[1]), dtype=torch.int64) for _ in range(2)
    ),
)
