"""Numbers of a `minifloat.Grid` in kernels: round, to codes, from codes; all exact in float32.

Steps of the grid are normal float32 here, see `fits`.
"""

import triton.language as tl

from rung.kernels.gpu.chunks import bits_of, float_of, signed
from rung.kernels.gpu.jit import Value, jit
from rung.kernels.minifloat import Grid

_MAGNITUDE, _NAN = tl.constexpr(0x7FFFFFFF), tl.constexpr(0x7FC00000)
# Adding it rounds a float32 to an integer, ties to even.
_TO_INTEGER = tl.constexpr(1.5 * 2.0**23)
_LARGEST = tl.constexpr(3.4028234663852886e38)


def fits(grid: Grid) -> bool:
    """Whether these kernels know a grid."""
    return grid.saturate and grid.step >= -126 and grid.largest < 2.0 ** (100 + grid.mantissa_bits)


def constants(grid: Grid) -> tuple[int, int, int, float, bool, bool]:
    """BITS, MANTISSA, LOWEST, LARGEST, SUBNORMALS, FIXED."""
    return (
        grid.bits,
        grid.mantissa_bits,
        grid.lowest,
        float(grid.largest),
        grid.subnormals,
        grid.fixed,
    )


@jit
def rounded(
    x: Value, words: Value, MANTISSA: tl.constexpr, LOWEST: tl.constexpr, LARGEST: tl.constexpr,
    SUBNORMALS: tl.constexpr, FIXED: tl.constexpr, STOCHASTIC: tl.constexpr,
) -> Value:  # fmt: skip
    """`minifloat.round_reference` of finite float32; `words` are Philox's."""
    size = tl.minimum(float_of(bits_of(x) & _MAGNITUDE), 2.0 * LARGEST)
    octave = tl.maximum((bits_of(size) >> 23) - 127, LOWEST)
    exponent = octave - MANTISSA
    if not SUBNORMALS:
        exponent = tl.where(size < 2.0**LOWEST, LOWEST, exponent)
    # A power of two and its inverse, both normal numbers.
    position = size * float_of((-exponent + 127) << 23)
    if STOCHASTIC:
        chance = ((words >> 8) & 0xFFFFFF).to(tl.float32) * 5.9604644775390625e-08
        below = tl.floor(position)
        position = below + (chance < position - below).to(tl.float32)
    else:
        whole = (position + _TO_INTEGER) - _TO_INTEGER
        if MANTISSA == 0:  # a code's parity is its octave's
            up = tl.where(((octave - LOWEST) & 1) == 0, 2.0, 1.0)
            whole = tl.where(position == 1.5, up, whole)
        position = whole
    value = tl.minimum(position * float_of((exponent + 127) << 23), LARGEST)
    result = float_of(bits_of(value) | (bits_of(x) & -2147483648))
    return result + 0.0 if FIXED else result


@jit
def codes_of(
    x: Value, BITS: tl.constexpr, MANTISSA: tl.constexpr, LOWEST: tl.constexpr,
    SUBNORMALS: tl.constexpr, FIXED: tl.constexpr,
) -> Value:  # fmt: skip
    """int32 codes of what `rounded` returns."""
    size = float_of(bits_of(x) & _MAGNITUDE)
    negative = bits_of(x) < 0
    if SUBNORMALS:
        # A product beyond the integers belongs to a number that does not take it.
        small = tl.minimum(size, 2.0**LOWEST)
        counted = (small * 2.0 ** (MANTISSA - LOWEST)).to(tl.int32)
    else:
        counted = bits_of(size) * 0
    first: tl.constexpr = (126 + LOWEST) << MANTISSA
    code = tl.where(size < 2.0**LOWEST, counted, (bits_of(size) >> (23 - MANTISSA)) - first)
    if FIXED:
        code = tl.where(negative, -code, code) & ((1 << BITS) - 1)
    else:
        code = code | tl.where(negative, 1 << (BITS - 1), 0)
    return code


@jit
def values_of(
    codes: Value, BITS: tl.constexpr, MANTISSA: tl.constexpr, LOWEST: tl.constexpr,
    SUBNORMALS: tl.constexpr, FIXED: tl.constexpr, INFINITY: tl.constexpr, NAN: tl.constexpr,
) -> Value:  # fmt: skip
    """float32 values of int32 codes; codes INFINITY and NAN are -1 where there are none."""
    top: tl.constexpr = 1 << (BITS - 1)
    code = codes & (2 * top - 1)
    negative = code >= top
    if FIXED:
        value = tl.where(negative, code - 2 * top, code).to(tl.float32)
        value = value * 2.0 ** (LOWEST - MANTISSA)
    else:
        size = code & (top - 1)
        field, fraction = size >> MANTISSA, size & ((1 << MANTISSA) - 1)
        steps = tl.where(field > 0, fraction + (1 << MANTISSA), fraction if SUBNORMALS else 0)
        exponent = tl.maximum(field - 1, 0) + (LOWEST - MANTISSA)
        value = steps.to(tl.float32) * float_of((exponent + 127) << 23)
        if NAN >= 0:
            beyond: tl.constexpr = INFINITY if INFINITY >= 0 else NAN - 1
            value = tl.where(size > beyond, float("nan"), value)
        if INFINITY >= 0:
            value = tl.where(size == INFINITY, float("inf"), value)
        value = signed(value, negative)
    return value


@jit
def scaled_back(value: Value, scale: Value, most: Value) -> Value:
    """Values times a scale; what is finite stays within `most`, NaN and infinity are kept."""
    product = value * scale
    bounded = tl.minimum(tl.maximum(product, -most), most)
    infinite = (bits_of(value) & _MAGNITUDE) == 0x7F800000
    return tl.where(infinite | (product != product), product, bounded)
