"""What one multiply-accumulate consists of in every kind of number."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rung.formats import LNS, MX, FixedPoint, Format, Minifloat, get, name_of
from rung.hardware.energy import scaling
from rung.hardware.energy.design import Design
from rung.hardware.energy.scaling import Terms

MULTIPLY, CONVERSION, ACCUMULATE = "multiply", "conversion", "accumulate"
DATAPATH = (MULTIPLY, CONVERSION, ACCUMULATE)
"""The parts of a multiply-accumulate."""

Parts = Mapping[str, Terms]
"""Part of the datapath -> its operations."""

# Exponent bits, significand bits with the hidden one, bits in memory: TF32 is kept as FP32.
_WIDE = {"fp32": (8, 24, 32), "tf32": (8, 11, 32)}
_ALIASES = {"fp8": "fp8_e4m3", "mxfp8": "mxfp8_e4m3", "mxfp6": "mxfp6_e3m2", "float32": "fp32"}
_INTEGER = re.compile(r"int([2-9]|1[0-6])")
_KNOWN = (
    "fp32, tf32, fp16, bf16, fp8_e4m3, fp8_e5m2, fp6_e3m2, fp6_e2m3, fp4_e2m1, mxfp8_e4m3, "
    "mxfp8_e5m2, mxfp6_e3m2, mxfp6_e2m3, mxfp4, mxint8, int2 to int16, lns3 to lns16 (lns8_b4 for "
    "another base factor)"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A multiply-accumulate unit: what is paid when.

    Attributes:
        name: Of its format.
        bits: Of an element in memory, its share of a block's scale included.
        per_product: Paid for every multiply-accumulate.
        per_block: Paid once for every `block` products of a sum, the last one perhaps shorter.
        per_bin: Paid that often too, for every bin in use: no more than `bins`, nor than products.
        per_result: Paid for every sum that is done.
        block: Products that share scales or bins.
        bins: Of an LNS.
    """

    name: str
    bits: float
    per_product: Parts
    per_block: Parts = field(default_factory=dict)
    per_bin: Parts = field(default_factory=dict)
    per_result: Parts = field(default_factory=dict)
    block: int = 1
    bins: int = 1


def unit_of(fmt: str | Format, design: Design | None = None) -> Unit:
    """The unit that multiplies two numbers of a format and sums the products.

        float   multiply the significands; add in float (`Design.float_accumulator`)
        MX      as its elements; once a block, add the two scales' exponents and apply the sum
        INT     multiply; add in 32 bits; requantize a result: multiply, shift and add of 32 bits
        LNS     multiply: add exponents of B - 1 bits. Convert: shift by the quotient, at the
                accumulator's width; every `vector_length` products, for every bin in use, read its
                constant and multiply by it; encode a result by finding its leading one, shifting to
                it, reading a table of the logarithm and adding. Accumulate: add into a bin, and
                the bins to one sum. Quotient and remainder are wiring and cost nothing.

    Rounding a float result to a narrower format is not charged, encoding one in LNS is.

    Args:
        fmt: A name: those of `rung.formats.get` but ladders, and ``"fp32"``, ``"tf32"``, ``"int2"``
            to ``"int16"``, ``"fp8"`` (e4m3), ``"mxfp6"`` (e3m2); or a format.
        design: Accumulators, conversion and vector length; default: `Design()`.

    Raises:
        ValueError: No such format, or one without a datapath; a table size that doesn't divide
            gamma.

    Example:
        >>> unit_of("fp8_e4m3").per_product["multiply"]
        {'narrow_float_multiply': 16}
    """
    design = design or Design()
    name = _ALIASES.get(fmt, fmt) if isinstance(fmt, str) else fmt
    if isinstance(name, str) and name in _WIDE:
        exponent, significand, bits = _WIDE[name]
        return _float(name, bits, exponent, significand, design)
    if isinstance(name, str) and (found := _INTEGER.fullmatch(name)):
        return _integer(name, int(found[1]))
    known = _known(name)
    title = name_of(known)
    if isinstance(known, Minifloat):
        return _minifloat(title, known, design)
    if isinstance(known, FixedPoint):
        return _integer(title, known.bits)
    if isinstance(known, MX):
        return _microscaling(title, known, design)
    if isinstance(known, LNS):
        return _logarithmic(title, known, design)
    raise ValueError(
        f"`fmt` must be a format with a datapath: {_KNOWN}; got {fmt!r}, whose products have no "
        "unit here. For logarithmic weights use the LNS of as many bits."
    )


def _known(fmt: str | Format) -> Format:
    try:
        return get(fmt)
    except ValueError:
        raise ValueError(f"Unknown format {fmt!r}; energy is known for: {_KNOWN}.") from None


def _float(name: str, bits: int, exponent: int, significand: int, design: Design) -> Unit:
    # fp16 must hold the sums: no more than its own exponent and significand.
    narrow = exponent <= 5 and significand <= 11
    row = "fp16_add" if narrow and design.float_accumulator == "fp16" else "fp32_add"
    return Unit(name, bits, {MULTIPLY: scaling.float_multiply(significand), ACCUMULATE: {row: 1.0}})


def _minifloat(name: str, fmt: Minifloat, design: Design) -> Unit:
    return _float(name, fmt.bits, fmt.exponent_bits, fmt.mantissa_bits + 1, design)


def _integer(name: str, bits: int) -> Unit:
    requantize = ((1, scaling.multiply(32, 32)), (1, scaling.shift(32, 31)), (1, scaling.add(32)))
    return Unit(
        name,
        bits,
        per_product={MULTIPLY: scaling.multiply(bits, bits), ACCUMULATE: scaling.add(32)},
        per_result={CONVERSION: scaling.total(requantize)},
    )


def _microscaling(name: str, fmt: MX, design: Design) -> Unit:
    element = fmt.element
    # E8M0 scales: one addition for the product of two, one to apply it to the block's sum.
    scales = {CONVERSION: scaling.total([(2, scaling.add(8))])}
    if isinstance(element, FixedPoint):
        # The block sums as integers; blocks have scales of their own and sum as floats.
        inner, blocks = _integer(name, element.bits), scales | {ACCUMULATE: {"fp32_add": 1.0}}
    else:
        inner, blocks = _minifloat(name, element, design), scales
    return Unit(
        name, fmt.bits_per_element, inner.per_product, per_block=blocks, block=fmt.block_size
    )


def _logarithmic(name: str, fmt: LNS, design: Design) -> Unit:
    width, exponent_bits = design.accumulator_bits, fmt.bits - 1
    quotient = 2 * (fmt.levels - 1) // fmt.base_factor  # of the largest sum of two exponents
    bins = design.bins(fmt.base_factor)
    constant = (
        (1, scaling.multiply(width, design.fraction_bits)),
        (1, scaling.read(design.fraction_bits)),
    )
    by_bin = {CONVERSION: scaling.total(constant), ACCUMULATE: scaling.add(width)}
    # The leading one is found by as many levels as a shift has.
    encode = (
        (2, scaling.shift(width, width)),
        (1, scaling.read(8)),
        (1, scaling.add(exponent_bits)),
    )
    return Unit(
        name,
        fmt.bits,
        per_product={
            MULTIPLY: scaling.add(exponent_bits),
            CONVERSION: scaling.shift(width, quotient),
            ACCUMULATE: scaling.add(width),
        },
        # Mitchell's products are numbers already and need no bins.
        per_bin={} if design.conversion == "mitchell" else by_bin,
        per_result={CONVERSION: scaling.total(encode)},
        block=design.vector_length,
        bins=bins,
    )
