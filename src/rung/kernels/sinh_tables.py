"""Rungs of a sinh ladder and where they end: the same float64 numbers on every machine.

They come from decimal arithmetic of 60 digits and are rounded once, so that no library's exp or
sinh decides a bit.
"""

import functools
from decimal import Decimal, localcontext

DIGITS = 60
"""Precision of the decimal arithmetic."""


@functools.cache
def rungs(bits: int, knee: float) -> tuple[float, ...]:
    """The numbers knee * sinh(k h), k = 0 ... K, from 0 to 1.

    K = 2^(bits - 1) - 1 and h = asinh(1 / knee) / K.
    """
    return (*_halves(bits, knee)[::2], 1.0)


@functools.cache
def boundaries(bits: int, knee: float) -> tuple[float, ...]:
    """The numbers knee * sinh((k + 1/2) h), k = 0 ... K - 1: where the rung of k ends."""
    return _halves(bits, knee)[1::2]


@functools.cache
def _halves(bits: int, knee: float) -> tuple[float, ...]:
    """The numbers knee * sinh(j h / 2) for j = 0 ... 2 K - 1."""
    top = (1 << (bits - 1)) - 1
    with localcontext() as context:
        context.prec = DIGITS
        half = asinh(1 / Decimal(knee)) / (2 * top)
        factor, power, found = half.exp(), Decimal(1), []
        for _ in range(2 * top):
            found.append(float(Decimal(knee) * (power - 1 / power) / 2))
            power *= factor
    return tuple(found)


def asinh(x: Decimal) -> Decimal:
    """ln(x + sqrt(x^2 + 1)) of a positive number, in the context's precision."""
    return (x + (x * x + 1).sqrt()).ln()


@functools.cache
def spacing(bits: int, knee: float) -> float:
    """h: the change of asinh(W / (knee * scale)) from one rung to the next."""
    with localcontext() as context:
        context.prec = DIGITS
        return float(asinh(1 / Decimal(knee)) / ((1 << (bits - 1)) - 1))
