"""Elementary functions in float32 that LLVM can vectorise, for the numba kernels.

Straight-line code on one value: no branch, no call, no table, so a loop over them turns into vector
instructions. Polynomials are minimax fits (iteratively reweighted least squares at 4,000 Chebyshev
points in float64), evaluated by Estrin's scheme with fused multiplications: short chains keep a
processor busy. Every processor gives the same bits, since without fast-math nothing is reordered.
"""

from typing import Any

import numpy as np
from numba.core import types

from rung.kernels.cpu.jit import inner, intrinsic

_f32, _i32 = np.float32, np.int32

ULP = 2  # error bound of exp and log, in units in the last place of the result
LARGEST_EXPONENT = 87.0  # e^x is a normal number for |x| up to it


@intrinsic
def bits_of(_context: Any, _value: Any) -> Any:
    """The int32 bit pattern of a float32."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.int32(types.float32), build


@intrinsic
def float_of(_context: Any, _bits: Any) -> Any:
    """The float32 of an int32 bit pattern."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.float32(types.int32), build


@intrinsic
def fma(_context: Any, _x: Any, _y: Any, _z: Any) -> Any:
    """Fused x * y + z of float32 numbers, rounded once."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), build


@intrinsic
def use_widest_vectors(_context: Any) -> Any:
    """Let the calling function's loops use 512-bit vectors where the processor has them.

    LLVM prefers 256 bits on most of these processors, for the sake of scalar code that runs beside.
    """

    def build(_context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        # llvmlite prints what is in the set and would refuse to add a name that it does not know.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')

    return types.void(), build


_LOG2_E = _f32(1.4426950408889634)
# ln 2 in two parts; the first has 9 trailing zero bits, so that multiples of it are exact.
_LN2_HIGH, _LN2_LOW = _f32(0.693359375), _f32(-2.12194440e-4)
_TO_INTEGER = _f32(1.5 * 2**23)  # adding it rounds to an integer, which its low bits then hold
_E2, _E3, _E4 = _f32(0.49999993334776954), _f32(0.16666518958836912), _f32(0.041668407756289216)
_E5, _E6 = _f32(0.008368919287609359), _f32(0.0013814177473937643)
_ONE, _HALF, _TWO = _f32(1.0), _f32(0.5), _f32(2.0)


@inner
def exp(x: Any) -> Any:
    """e^x of a float32, |x| <= `LARGEST_EXPONENT`."""
    shifted = fma(x, _LOG2_E, _TO_INTEGER)
    n = shifted - _TO_INTEGER
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    square = r * r
    p = fma(fma(_E6, square, fma(_E5, r, _E4)), square, fma(_E3, r, _E2))
    value = fma(square, p, r) + _ONE
    # The shift drops the bits of _TO_INTEGER; what remains adds n to the exponent.
    return float_of(_i32(bits_of(value) + _i32(bits_of(shifted) << _i32(23))))


_L0, _L1, _L2 = _f32(0.33333331198876565), _f32(-0.2500083798205108), _f32(0.2000129249007102)
_L3, _L4, _L5 = _f32(-0.16622764070496698), _f32(0.1419970014296091), _f32(-0.13164198589339496)
_L6, _L7 = _f32(0.12779088145003265), _f32(-0.07646037938346713)
_ROOT_HALF_BITS = _i32(0x3F3504F3)
_MANTISSA, _ONE_BITS = _i32(0x7FFFFF), _i32(0x3F800000)


@inner
def split(x: Any) -> Any:
    """(k, f) of a positive normal float32 x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt(2))."""
    bits = bits_of(x)
    # numba's sums of int32 are int64; taken back each time, they stay in 32-bit lanes.
    k = _i32(_i32(bits - _ROOT_HALF_BITS) >> _i32(23))
    return k, float_of(_i32(bits - _i32(k << _i32(23)))) - _ONE


@inner
def log_sum(k: Any, f: Any) -> Any:
    """Sum k ln 2 + ln(1 + f) of float32 k (an integer) and f in [sqrt(1/2) - 1, sqrt(2) - 1]."""
    square = f * f
    p = fma(fma(_L7, f, _L6), square, fma(_L5, f, _L4))
    p = fma(p, square * square, fma(fma(_L3, f, _L2), square, fma(_L1, f, _L0)))
    # The terms by size, the smallest first: f - f^2/2 + f^3 p.
    tail = fma(k, _LN2_LOW, fma(square * f, p, -_HALF * square))
    return fma(k, _LN2_HIGH, f + tail)


@inner
def log(x: Any) -> Any:
    """Natural logarithm of a positive normal float32."""
    k, f = split(x)
    return log_sum(_f32(k), f)


_PER_WORD = _f32(2.0**-32)
_ROOT_HALF_FROM_ONE = _f32(1 - 0.5**0.5)


@inner
def radius(word: Any) -> Any:
    """sqrt(-2 ln((word + 0.5) / 2^32)), the word unsigned, given as int32."""
    from_end = word < _i32(0)
    folded = _i32(word ^ _i32(word >> _i32(31)))
    distance = (_f32(folded) + _HALF) * _PER_WORD  # to 0 or to 1, at most 1/2
    k, f = split(distance)
    near = distance <= _ROOT_HALF_FROM_ONE  # 1 - distance is over sqrt(1/2)
    f_end = -distance if near else _ONE - _TWO * distance
    k_end = _i32(0) if near else _i32(-1)
    log_u1 = log_sum(_f32(k_end if from_end else k), f_end if from_end else f)
    return np.sqrt(-_TWO * log_u1)
