"""A processing element for LNS codes in plain Python integers, held against docs/datapath.md."""

from fractions import Fraction
from functools import cache


@cache
def nearest_constant(index, size, fraction_bits):
    """2^(index / size) to the nearest multiple of 2^-fraction_bits, in those units."""
    # c is nearest to x if (c - 1/2)^size < x^size < (c + 1/2)^size, all of them rational.
    power = Fraction(2) ** (size * fraction_bits + index)
    c = 1 << fraction_bits
    step = c
    while step:
        if (c + step - Fraction(1, 2)) ** size < power:
            c += step
        else:
            step //= 2
    return c


def element(a, b, *, bits=8, gamma=8, size=8, fraction=8, width=24, dropped=0, wrap=False,
            zero=False, length=None):  # fmt: skip
    """(sum, overflows) of a dot product of two lists of codes."""
    largest, smallest = 2 ** (width - 1) - 1, -(2 ** (width - 1))
    log2_gamma = gamma.bit_length() - 1
    total, overflows = 0, 0
    for start in range(0, len(a), length or max(1, len(a))):
        stop = len(a) if length is None else start + length
        bins = [0] * size
        for x, y in zip(a[start:stop], b[start:stop], strict=True):
            e, f = x % 2 ** (bits - 1), y % 2 ** (bits - 1)
            if zero and 0 in (e, f):
                continue
            shift, remainder = (e + f) // gamma, (e + f) % gamma
            index, rest = remainder // (gamma // size), remainder % (gamma // size)
            # 1 + rest / gamma, in units of 1 / gamma if any mantissa has such a fraction.
            mantissa = 1 if size == gamma else gamma + rest
            magnitude = mantissa * 2**shift // 2**dropped
            negative = (x >> (bits - 1)) % 2 != (y >> (bits - 1)) % 2
            content = bins[index] + (-magnitude if negative else magnitude)
            if not smallest <= content <= largest:
                overflows += 1
                if wrap:
                    content = (content - smallest) % 2**width + smallest
                else:
                    content = largest if content > 0 else smallest
            bins[index] = content
        constants = [nearest_constant(index, size, fraction) for index in range(size)]
        written = sum(content * c for content, c in zip(bins, constants, strict=True)) * 2**dropped
        total += written if size == gamma else written >> log2_gamma
    return total, overflows
