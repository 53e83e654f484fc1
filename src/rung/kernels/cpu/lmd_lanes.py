"""What LMD's loops compute on vectors of sixteen: normals, powers, logarithms, stored state.

Polynomials are minimax fits (iteratively reweighted least squares at 4,000 Chebyshev points in
float64), evaluated by Estrin's scheme with fused multiplications. Every processor gives the same
bits. Importing this imports numba.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from rung.kernels.cpu.jit import intrinsic, lane, overload
from rung.kernels.cpu.memory_lanes import read, write
from rung.kernels.cpu.simd import (
    FLOATS,
    bits_of,
    bits_of_mask,
    float_of,
    fma,
    select,
    shift_right,
    splat,
    sqrt,
    to_float,
)

_f32, _i32 = np.float32, np.int32

ULP = 3  # error bound of exp2, in units in the last place of the result
LOG2_ERROR = 5e-7  # of log2_scaled's fraction; the sum with whole octaves is rounded once more
NARROW = 0.5  # exponents under which exp2 has nothing to reduce
_ALL = np.uint16(0xFFFF)


_E1, _E2, _E3 = _f32(0.6931470036506653), _f32(0.24022242426872253), _f32(0.05550733581185341)
_E4, _E5 = _f32(0.009671512991189957), _f32(0.001326472731307149)
_TO_INTEGER = _f32(1.5 * 2**23)  # adding it rounds to an integer, which its low bits then hold


@lane
def exp2_narrow(x: Any) -> Any:
    """2^x for |x| <= 1/2."""
    square = x * x
    high = fma(fma(splat(_E5), x, splat(_E4)), square, fma(splat(_E3), x, splat(_E2)))
    return fma(high, square, fma(splat(_E1), x, splat(_f32(1.0))))


@lane
def exp2(x: Any) -> Any:
    """2^x for |x| <= 126; of |x| < 1/2 the bits that `exp2_narrow` gives."""
    shifted = x + splat(_TO_INTEGER)
    value = exp2_narrow(x - (shifted - splat(_TO_INTEGER)))
    # The shift drops the bits of _TO_INTEGER; what remains adds to the exponent.
    return float_of(bits_of(value) + (bits_of(shifted) << splat(_i32(23))))


@lane
def narrow(x: Any, y: Any) -> Any:
    """Whether all of both are under 1/2 in magnitude; NaN is not."""
    return bits_of_mask(fma(x, x, y * y) < splat(_f32(0.25))) == _ALL


_L0 = 0.584962785243988
_L1, _L2, _L3 = _f32(0.9617953896522522), _f32(-0.32063233852386475), _f32(0.14254532754421234)
_L4, _L5, _L6 = _f32(-0.07058960944414139), _f32(0.03731129691004753), _f32(-0.025123370811343193)
_L7 = _f32(0.015125341713428497)


@lane
def log2_scaled(x: Any, octaves: Any, fraction: Any) -> Any:
    """log2(x) + octaves + fraction of positive normal x.

    Args:
        x: Sixteen floats.
        octaves: int32 that `log2_numbers` gives.
        fraction: float32, likewise.
    """
    bits = bits_of(x)
    k = to_float(shift_right(bits, splat(_i32(23))) + splat(octaves))
    mantissa = float_of((bits & splat(_i32(0x7FFFFF))) | splat(_i32(0x3F800000)))
    t = mantissa - splat(_f32(1.5))
    square = t * t
    high = fma(fma(splat(_L7), t, splat(_L6)), square, fma(splat(_L5), t, splat(_L4)))
    low = fma(fma(splat(_L3), t, splat(_L2)), square, fma(splat(_L1), t, splat(fraction)))
    return k + fma(high, square * square, low)


@lane
def log2_numbers(shift: Any) -> Any:
    """(octaves, fraction) for `log2_scaled` to add a float64 shift."""
    whole = np.floor(shift)
    return _i32(np.int64(whole) - 127), _f32(_L0 + (shift - whole))


# -2 ln(1 + f) / f
_Q0, _Q1, _Q2 = _f32(-1.9999998807907104), _f32(1.0000072717666626), _f32(-0.6667011976242065)
_Q3, _Q4, _Q5 = _f32(0.4993981719017029), _f32(-0.39800330996513367), _f32(0.34501662850379944)
_Q6, _Q7 = _f32(-0.3244515061378479), _f32(0.20213767886161804)
_MINUS_2_LN_2 = _f32(-1.3862943611198906)
_ROOT_HALF_BITS = _i32(0x3F3504F3 + (19 << 23))
# cos and sin of a quarter turn's share, times sqrt(1/2); by integer 2^-16 of a turn each.
_C0, _C1 = _f32(0.7071067690849304), _f32(-3.249777558167466e-09)
_C2, _C3 = _f32(2.4885832126234407e-18), _f32(-7.460592307299443e-28)
_S0, _S1 = _f32(6.779301475035027e-05), _f32(-1.0385628853226345e-13)
_S2, _S3 = _f32(4.7721304268785575e-23), _f32(-1.0246478627586666e-32)


@lane
def radius(words: Any) -> Any:
    """sqrt(-2 ln((k + 1/2) / 2^18)), k the upper 18 bits."""
    odd = to_float(shift_right(words, splat(_i32(13))) | splat(_i32(1)))  # (k + 1/2) 2
    k = (bits_of(odd) - splat(_ROOT_HALF_BITS)) >> splat(_i32(23))
    f = fma(
        float_of(bits_of(odd) - (k << splat(_i32(23)))), splat(_f32(2.0**-19)), splat(_f32(-1.0))
    )
    square = f * f
    high = fma(fma(splat(_Q7), f, splat(_Q6)), square, fma(splat(_Q5), f, splat(_Q4)))
    low = fma(fma(splat(_Q3), f, splat(_Q2)), square, fma(splat(_Q1), f, splat(_Q0)))
    log = fma(high, square * square, low) * f
    return sqrt(fma(to_float(k), splat(_MINUS_2_LN_2), log))


@lane
def normals(words: Any) -> Any:
    """The pair of sixteen words each; see `normal`."""
    r = radius(words)
    t = to_float((words & splat(_i32(0x3FFC))) - splat(_i32(8190)))
    z = t * t
    cos = fma(fma(fma(splat(_C3), z, splat(_C2)), z, splat(_C1)), z, splat(_C0))
    sin = fma(fma(fma(splat(_S3), z, splat(_S2)), z, splat(_S1)), z, splat(_S0)) * t
    top = splat(_i32(-0x80000000))
    pos = bits_of(r * (cos - sin)) ^ (words << splat(_i32(31)))
    neg = bits_of(r * (cos + sin)) ^ ((words << splat(_i32(30))) & top)
    return float_of(pos), float_of(neg)


# -- state in float32 or in bfloat16, as uint16 ----------------------------------------------


def read_state(address: Any, like: Any) -> Any:
    """Sixteen floats of float32 or, if `like` is a uint16, bfloat16."""
    raise NotImplementedError  # numba's alone


@overload(read_state)
def _read_state(address: Any, like: Any) -> Any:
    def full(address: Any, like: Any) -> Any:
        return read(address, _f32(0))

    def half(address: Any, like: Any) -> Any:
        return float_of(read(address, np.uint16(0)) << splat(_i32(16)))

    return full if like == types.float32 else half


def write_state(address: Any, like: Any, value: Any, draws: Any) -> Any:
    """Store floats; to bfloat16 rounded by the lower 16 bits of `draws`. What is stored then."""
    raise NotImplementedError  # numba's alone


@overload(write_state)
def _write_state(address: Any, like: Any, value: Any, draws: Any) -> Any:
    def full(address: Any, like: Any, value: Any, draws: Any) -> Any:
        write(address, _f32(0), value)
        return value

    def half(address: Any, like: Any, value: Any, draws: Any) -> Any:
        # Adding 16 random bits carries into the kept part with the odds of the dropped fraction.
        kept = shift_right(bits_of(value) + (draws & splat(_i32(0xFFFF))), splat(_i32(16)))
        write(address, np.uint16(0), kept)
        return float_of(kept << splat(_i32(16)))

    return full if like == types.float32 else half


_WIDE = ir.VectorType(ir.DoubleType(), 16)


@intrinsic
def relative(_context: Any, x: Any, inverse: Any, clip: Any) -> Any:
    """X times inverse, limited to +-clip, both float64: 1 / a tiny rms has no room in float32."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        factor, top = (_spread(builder, one) for one in arguments[1:])
        value = builder.fmul(builder.fpext(arguments[0], _WIDE), factor)
        value = builder.select(builder.fcmp_ordered("<", value, top), value, top)
        low = builder.fneg(top)
        value = builder.select(builder.fcmp_ordered(">", value, low), value, low)
        return builder.fptrunc(value, arguments[0].type)

    return FLOATS(FLOATS, types.float64, types.float64), build


def _spread(builder: Any, one: Any) -> Any:
    places = ir.VectorType(ir.IntType(32), 16)
    first = ir.Constant(ir.IntType(32), 0)
    lane0 = builder.insert_element(ir.Constant(_WIDE, ir.Undefined), one, first)
    return builder.shuffle_vector(lane0, lane0, ir.Constant(places, [0] * 16))


@intrinsic
def sum_of_squares(_context: Any, x: Any) -> Any:
    """Of sixteen floats, in float64, which no square of a float32 leaves."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        value = builder.fpext(arguments[0], _WIDE)
        value, half = builder.fmul(value, value), 8
        while half:
            kind = ir.VectorType(ir.IntType(32), half)
            low, high = (
                builder.shuffle_vector(
                    value, value, ir.Constant(kind, list(range(first, first + half)))
                )
                for first in (0, half)
            )
            value, half = builder.fadd(low, high), half // 2
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return types.float64(FLOATS), build


@lane
def bounded(h: Any) -> Any:
    """0 for NaN, else limited to +-2^63."""
    limit = splat(_f32(2.0**63))
    inside = select(h < limit, h, limit)
    inside = select(inside > splat(_f32(-(2.0**63))), inside, splat(_f32(-(2.0**63))))
    return select(h == h, inside, splat(_f32(0.0)))
