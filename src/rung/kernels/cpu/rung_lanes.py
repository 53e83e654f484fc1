"""What the loops of the logarithmic formats share: rungs of sixteen numbers, and groups of scale.

A number over the significand of its scale names its rung up to rounding: the quotient in float32 is
within two units in the last place. One comparison with a boundary of the format (the same for every
scale) then decides, exactly unless the two lie within `NEAR` units. Those lanes, three in a million
of random numbers, are decided one by one by exact arithmetic.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from rung.kernels.cpu import simd
from rung.kernels.cpu.float32_math import bits_of, float_of
from rung.kernels.cpu.jit import intrinsic, lane
from rung.kernels.cpu.lane_control import Variable, loop, when
from rung.kernels.cpu.lane_operands import choose
from rung.kernels.cpu.memory_lanes import load
from rung.kernels.cpu.simd import LANES, look_up, select, splat
from rung.kernels.group_scales import GIVEN, POWER_OF_TWO

MAGNITUDE, SIGN = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
FRACTION, EXPONENT = np.int32(0x7FFFFF), np.int32(-0x800000)  # the sign goes with the exponent
ONE, INFINITE, QUIET_NAN = np.int32(127 << 23), np.int32(0x7F800000), np.int32(0x7FC00000)
SMALLEST_NORMAL = np.int32(1 << 23)
# Units in the last place: two of the quotient, a half of the boundary, and one to spare.
NEAR = np.int32(3)
_f32, _i32 = np.float32, np.int32

# log2(1 + t) on [0, 1): minimax, wrong by less than 2.1e-6 (fitted as in float32_math).
_C1, _C2, _C3 = _f32(1.442553162574768), _f32(-0.7182818651199341), _f32(0.4582705795764923)
_C4, _C5, _C6 = _f32(-0.2795376777648926), _f32(0.12345106154680252), _f32(-0.026457304134964943)


@intrinsic
def gather(_context: Any, array: Any, index: Any) -> Any:
    """Lane i of the result is array[index[i]] of a contiguous float32 or int32 array; unchecked."""
    kind = simd.FLOATS if array.dtype == types.float32 else simd.INTS

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        element = context.get_value_type(array.dtype)
        result = ir.Constant(ir.VectorType(element, LANES), ir.Undefined)
        if simd._HAS_PERMUTE:
            byte = ir.IntType(8).as_pointer()
            mask = ir.VectorType(ir.IntType(1), LANES)
            scale = ir.Constant(ir.IntType(32), 4)
            shape = ir.FunctionType(
                result.type, [result.type, byte, arguments[1].type, mask, scale.type]
            )
            suffix = "dps" if kind == simd.FLOATS else "dpi"
            name = f"llvm.x86.avx512.mask.gather.{suffix}.512"
            function = cgutils.get_or_insert_function(builder.module, shape, name)
            every = ir.Constant(mask, [1] * LANES)
            zeros = ir.Constant(result.type, [0] * LANES)
            return builder.call(
                function, (zeros, builder.bitcast(data, byte), arguments[1], every, scale)
            )
        for place in range(LANES):
            at = ir.Constant(ir.IntType(32), place)
            element = cgutils.gep(builder, data, builder.extract_element(arguments[1], at))
            result = builder.insert_element(result, builder.load(element), at)
        return result

    return kind(array, simd.INTS), build


@intrinsic
def first_lane(_context: Any, value: Any) -> Any:
    """The first of sixteen int32."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), 0))

    return types.int32(simd.INTS), build


@lane
def log2_of_significand(fraction: Any) -> Any:
    """Log2 of 1.fraction for sixteen fractions of 23 bits, within 2.5e-6."""
    t = simd.float_of(fraction | splat(ONE)) - splat(_f32(1.0))
    s = t * t
    low = simd.fma(splat(_C2), t, splat(_C1))
    middle = simd.fma(splat(_C4), t, splat(_C3))
    high = simd.fma(splat(_C6), t, splat(_C5))
    return simd.fma(simd.fma(high, s, middle), s, low) * t


@lane
def largest_bits(x: Any, start: Any, end: Any) -> Any:
    """Bits of the largest magnitude of x[start:end]; infinity and NaN are larger than any number.

    `x` is int32, the bits of float32.
    """
    fours = start + ((end - start) & np.int64(-4 * LANES))
    whole = start + ((end - start) & np.int64(-LANES))
    parts = [Variable(splat(_i32(0))) for _ in range(4)]
    for i in loop(start, fours, 4 * LANES):
        for k, part in enumerate(parts):
            part.now = _larger(part.now, load(x, i + k * LANES) & splat(MAGNITUDE))
    for i in loop(fours, whole, LANES):
        parts[0].now = _larger(parts[0].now, load(x, i) & splat(MAGNITUDE))
    a, b, c, d = (part.now for part in parts)
    most = Variable(largest_lane(_larger(_larger(a, b), _larger(c, d))))
    for i in loop(whole, end):
        most.now = max(most.now, _i32(x[i] & MAGNITUDE))
    return most.now


@lane
def _larger(a: Any, b: Any) -> Any:
    return select(a > b, a, b)


@lane
def largest_lane(value: Any) -> Any:
    """The largest of sixteen int32."""
    for distance in (8, 4, 2, 1):
        other = look_up(value, simd.lanes() ^ splat(_i32(distance)))
        value = select(value > other, value, other)
    return first_lane(value)


@lane
def power_of_two_above(bits: Any, highest: Any) -> Any:
    """Bits of the smallest power of two that is at least a positive number, at most `highest`."""
    # The bits of a subnormal number count its units.
    power = _i32(float_of(_i32((bits_of(_f32(bits)) + FRACTION) & EXPONENT)))
    normal = _i32(min((bits + FRACTION) & EXPONENT, highest))
    return choose(bits < SMALLEST_NORMAL, power, normal)


@lane
def inverse_significand(scale_bits: Any) -> Any:
    """1 over the significand, in [1, 2), of a normal number."""
    return _f32(1.0) / float_of(_i32((scale_bits & FRACTION) | ONE))


@lane
def group_scale(x: Any, start: Any, end: Any, given: Any, source: Any, highest: Any) -> Any:
    """Bits of a group's scale: its largest magnitude or the given one; NaN if x is not finite."""
    most = largest_bits(x, start, end)
    scale = Variable(most)
    with when(source == GIVEN):
        scale.now = given
    with when((source == POWER_OF_TWO) & (most > 0)):
        scale.now = power_of_two_above(most, highest)
    return choose(most >= INFINITE, QUIET_NAN, scale.now)


@lane
def value_bits(power: Any, scale: Any) -> Any:
    """Bits of a product of two float32."""
    return bits_of(_f32(power * scale))
