"""Where one rung of a ladder ends: a float64 for every code, the same on every device.

Code k is that of magnitudes from S * h_k on, h_k = exp(-(k + 1/2) eta0), up to S * h_(k-1). The
constants h are computed in integers of 200 bits and rounded to float64 once; the product is one of
float64. So the decision needs no logarithm and no backend's exp.
"""

import functools
import math
from fractions import Fraction

_BITS = 220


@functools.cache
def boundaries(bits: int, base_precision: float) -> tuple[float, ...]:
    """exp(-(k + 1/2) * base_precision) for k = 0 ... 2^bits - 2, and 0 for the last code."""
    half = _exp_of_negative(Fraction(base_precision) / 2)
    rung = (half * half) >> _BITS
    power, found = half, []
    for _ in range(2**bits - 1):
        found.append(math.ldexp(float(power), -_BITS))
        power = (power * rung) >> _BITS
    return (*found, 0.0)


def _exp_of_negative(x: Fraction) -> int:
    """exp(-x) * 2^220 for x in [0, 87], by the series of x / 2^16 and sixteen squarings."""
    bits = _BITS + 32
    one, small = 1 << bits, (x.numerator << (bits - 16)) // x.denominator
    term, total, n = one, one, 0
    while term:
        n += 1
        term = (term * small >> bits) // n
        total += -term if n % 2 else term
    for _ in range(16):
        total = total * total >> bits
    return total >> 32
