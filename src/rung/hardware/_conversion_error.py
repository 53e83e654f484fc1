"""How far a datapath's 2^(r / gamma) and its products are from the exact ones: by enumeration."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext

from rung.hardware.datapath import Datapath
from rung.kernels import datapath as kernel

# Digits: products have at most 112 bits, 34 digits, before what is compared with them is rounded.
_DIGITS = 60


@dataclass(frozen=True)
class ProductError:
    """Errors of single products over all pairs of codes whose product is not 0.

    Attributes:
        pairs: Pairs of codes, signs included.
        worst_relative: Largest |result - exact| / exact; 1 where products are dropped whole.
        mean_relative: Mean of the same.
        bias: Mean of (result - exact) / exact, signs of the products taken out.
        worst_units: Largest |result - exact| in units of 2^-fraction_bits products of the smallest
            exponents, in which `datapath.matmul` counts.
        mean_units: Mean of the same.
        lost: Share of pairs of which the dropped bits leave nothing.
        overflows: Share of pairs whose product alone leaves its bin's range.
    """

    pairs: int
    worst_relative: float
    mean_relative: float
    bias: float
    worst_units: float
    mean_units: float
    lost: float
    overflows: float


@dataclass(frozen=True)
class ConversionError:
    """Errors of a conversion, relative to 2^(r / gamma), and of the products made by it.

    Attributes:
        remainders: (constant x mantissa) / 2^(r / gamma) - 1 for r = 0 ... gamma - 1.
        worst: Largest magnitude of these.
        mean: Mean of their magnitudes.
        bias: Mean of them, signs kept.
        product: Of single products, with what the bins' width and dropped bits do to them.
    """

    remainders: tuple[float, ...]
    worst: float
    mean: float
    bias: float
    product: ProductError


def conversion_error(datapath: Datapath, bits: int = 8) -> ConversionError:
    """Every remainder and every pair of codes against exact powers of two.

    Exact powers have 60 digits, so what is returned is the error to all digits of a float.

    Args:
        datapath: The design.
        bits: B of both codes, 3 to 16; the datapath's own, if it says so, must be the same.

    Returns:
        Worst and mean errors.

    Raises:
        ValueError: `bits` out of range, or other than the datapath's.
        TypeError: `bits` is not an integer.

    Example:
        >>> round(conversion_error(Datapath(conversion="mitchell")).worst, 4)
        0.0607

    Source: Mitchell 1962 for 1 + x, whose error is at most 0.0615 for any base factor.
    """
    _check_bits(datapath, bits)
    design = datapath.design(bits)
    with localcontext() as context:
        context.prec = _DIGITS
        gamma = design.base_factor
        roots = [Decimal(2) ** (Decimal(r) / gamma) for r in range(gamma)]
        errors = [float(_converted(design, r) / root - 1) for r, root in enumerate(roots)]
        product = _summary(list(_products(design, roots)))
    sizes = [abs(error) for error in errors]
    return ConversionError(
        tuple(errors), max(sizes), sum(sizes) / gamma, sum(errors) / gamma, product
    )


def _check_bits(datapath: Datapath, bits: int) -> None:
    if isinstance(bits, bool) or not isinstance(bits, int):
        raise TypeError(f"`bits` must be an integer; got {bits!r}.")
    if not 3 <= bits <= 16:
        raise ValueError(f"`bits` must be from 3 to 16; got bits={bits}.")
    if datapath.bits not in (None, bits):
        raise ValueError(
            f"`bits` must be those of the datapath's codes, {datapath.bits}; got bits={bits}."
        )


def _converted(design: kernel.Design, remainder: int) -> Decimal:
    mantissa, index = kernel.mantissa_and_bin(design, remainder)
    whole = mantissa * kernel.constant(design, index)
    return Decimal(whole) / (1 << (design.fraction_bits + design.guard_bits))


@dataclass(frozen=True)
class _Product:
    """All pairs of one sum of exponents and one sign."""

    pairs: int
    relative: Decimal
    units: Decimal
    lost: bool
    overflows: bool


def _products(design: kernel.Design, roots: list[Decimal]) -> Iterator[_Product]:
    """Every sum of two exponents, positive and negative: rounding down tells signs apart."""
    first, last, gamma = int(design.zero), design.last, design.base_factor
    half = 1 << (design.accumulator_bits - 1)
    constants = [kernel.constant(design, index) for index in range(design.table_size)]
    for exponent in range(2 * first, 2 * last + 1):
        pairs = min(exponent - first, last) - max(exponent - last, first) + 1
        size, index = kernel.term(design, exponent)
        shift, remainder = divmod(exponent, gamma)
        exact = Decimal(2) ** (shift + design.fraction_bits) * roots[remainder]
        for sign in (1, -1):
            wanted = sign * size
            if design.wraps:
                kept = (wanted + half) % (2 * half) - half
            else:
                kept = max(-half, min(half - 1, wanted))
            result = (kept * constants[index] << design.dropped_bits) >> design.guard_bits
            units = sign * result - exact
            # Each sign of a product belongs to two pairs of signs.
            yield _Product(2 * pairs, units / exact, units, size == 0, kept != wanted)


def _summary(products: list[_Product]) -> ProductError:
    pairs = sum(product.pairs for product in products)
    relative = [abs(product.relative) for product in products]
    units = [abs(product.units) for product in products]

    def mean(values: list[Decimal]) -> float:
        total = sum(v * p.pairs for v, p in zip(values, products, strict=True))
        return float(total / pairs)

    return ProductError(
        pairs,
        float(max(relative)),
        mean(relative),
        mean([product.relative for product in products]),
        float(max(units)),
        mean(units),
        sum(product.pairs for product in products if product.lost) / pairs,
        sum(product.pairs for product in products if product.overflows) / pairs,
    )
