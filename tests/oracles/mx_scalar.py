"""OCP Microscaling Formats (MX) v1.0, one number at a time, in exact fractions.

Section 5.3 (elements): a table of fields per format. Section 6.3 (conversion): the shared exponent
is the largest power of two not above the largest magnitude, over the largest power of two of the
element; elements are rounded to nearest, ties to even, and saturate. The three other scale rules
are written by what they say. Nothing is shared with the package.
"""

import bisect
import functools
import math
from fractions import Fraction

# Exponent bits, mantissa bits, bias, special values. Tables 2 to 5 of the specification.
FLOATS = {
    "fp8_e4m3": (4, 3, 7, "nan"),
    "fp8_e5m2": (5, 2, 15, "ieee"),
    "fp6_e3m2": (3, 2, 3, "none"),
    "fp6_e2m3": (2, 3, 1, "none"),
    "fp4_e2m1": (2, 1, 1, "none"),
}
# emax_elem and the largest normal number, as printed in the specification.
EMAX = {
    "fp8_e4m3": 8,
    "fp8_e5m2": 15,
    "fp6_e3m2": 4,
    "fp6_e2m3": 2,
    "fp4_e2m1": 2,
    "int8": 0,
}
LARGEST = {
    "fp8_e4m3": Fraction(448),
    "fp8_e5m2": Fraction(57344),
    "fp6_e3m2": Fraction(28),
    "fp6_e2m3": Fraction(15, 2),
    "fp4_e2m1": Fraction(6),
    "int8": Fraction(127, 64),
}
MANTISSA = {name: FLOATS[name][1] for name in FLOATS} | {"int8": 6}
BITS = {name: 1 + sum(FLOATS[name][:2]) for name in FLOATS} | {"int8": 8}
RULES = ("floor", "ceil", "even", "rceil")
LARGEST_FLOAT32 = Fraction((1 << 24) - 1) * Fraction(2) ** 104


def value(name, code):
    """Value of an element's code: a Fraction, or a float for NaN and infinity."""
    if name == "int8":
        return Fraction(code - 256 if code >= 128 else code, 64)
    exponent_bits, mantissa_bits, bias, specials = FLOATS[name]
    sign = -1 if code >> (exponent_bits + mantissa_bits) else 1
    exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = code & ((1 << mantissa_bits) - 1)
    full = exponent == (1 << exponent_bits) - 1
    if specials == "ieee" and full:
        return math.nan if mantissa else sign * math.inf
    if specials == "nan" and full and mantissa == (1 << mantissa_bits) - 1:
        return math.nan
    fraction = Fraction(mantissa, 1 << mantissa_bits)
    if exponent == 0:
        return sign * Fraction(2) ** (1 - bias) * fraction
    return sign * Fraction(2) ** (exponent - bias) * (1 + fraction)


@functools.cache
def ladder(name):
    """Finite values that are not negative, ascending, and their codes."""
    codes = [c for c in range(1 << (BITS[name] - 1)) if not isinstance(value(name, c), float)]
    return [value(name, code) for code in codes], codes


def nearest(name, x, negative):
    """Code nearest to a Fraction; of two, the even one.

    Args:
        name: The element.
        x: A fraction.
        negative: Its sign, which a zero has too.
    """
    values, codes = ladder(name)
    above = min(bisect.bisect_left(values, abs(x)), len(values) - 1)
    both = {max(above - 1, 0), above}
    size = codes[min(both, key=lambda place: (abs(values[place] - abs(x)), codes[place] & 1))]
    if name == "int8":
        return -size & 0xFF if negative else size
    return size | negative << (BITS[name] - 1)


def floor_log2(x):
    """The largest integer e with 2^e <= x."""
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if Fraction(2) ** e <= x else e - 1


def ceil_log2(x):
    """The smallest integer e with 2^e >= x."""
    e = floor_log2(x)
    return e if Fraction(2) ** e == x else e + 1


def shared_exponent(name, amax, rule):
    """s of the block's scale 2^s, -127 ... 127."""
    if amax == 0:
        return -127
    if rule == "floor":
        s = floor_log2(amax) - EMAX[name]
    elif rule == "ceil":
        s = ceil_log2(amax) - EMAX[name]
    elif rule == "rceil":
        s = ceil_log2(amax / LARGEST[name])
    else:
        unit = Fraction(2) ** (floor_log2(amax) - MANTISSA[name])
        rounded = math.floor(amax / unit + Fraction(1, 2)) * unit
        s = floor_log2(rounded) - EMAX[name]
    return min(max(s, -127), 127)


def encode_block(name, numbers, rule):
    """Scale code and element codes of one block of floats."""
    if not all(map(math.isfinite, numbers)):
        return 255, [0] * len(numbers)
    exact = [Fraction(x) for x in numbers]
    s = shared_exponent(name, max(map(abs, exact)), rule)
    scale = Fraction(2) ** s
    signs = [math.copysign(1.0, x) < 0 for x in numbers]
    return s + 127, [nearest(name, x / scale, n) for x, n in zip(exact, signs, strict=True)]


def decode_block(name, scale_code, codes, most=LARGEST_FLOAT32):
    """Values of a block, at most `most` in magnitude where they are finite."""
    if scale_code == 255:
        return [math.nan] * len(codes)
    scale = Fraction(2) ** (scale_code - 127)
    return [_decoded(name, code, scale, most) for code in codes]


def _decoded(name, code, scale, most):
    x = value(name, code)
    if isinstance(x, float):
        return x
    size = float(min(abs(x * scale), most))
    return -size if code >> (BITS[name] - 1) else size
