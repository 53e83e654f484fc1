"""Vectors of 32 sixteen-bit integers for numba: codes and their moves, two of `simd`'s at once.

What is stored in 8 or 16 bits fits twice into a register once it is there. Upper halves of two
vectors of int32 go into one of these in a single instruction; so do bfloat16 numbers the other way.

Importing this imports numba.
"""

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from rung.kernels.cpu.jit import intrinsic
from rung.kernels.cpu.simd import FLOATS, INTS, LANES, MASK, Vector, define, operation

COUNT = 2 * LANES
HALVES, HALF_MASK = Vector("int16", COUNT), Vector("bool", COUNT)

_i32 = ir.IntType(32)
_WIDE, _NARROW = ir.VectorType(_i32, LANES), ir.VectorType(ir.IntType(16), COUNT)

for _symbol, _emit in {
    operator.and_: lambda b, x, y: b.and_(x, y),
    operator.or_: lambda b, x, y: b.or_(x, y),
    operator.xor: lambda b, x, y: b.xor(x, y),
}.items():
    define(_symbol, HALVES, HALVES, _emit)
define(operator.gt, HALVES, HALF_MASK, lambda b, x, y: b.icmp_signed(">", x, y))


def _shuffle(builder: Any, x: Any, y: Any, places: list[int]) -> Any:
    kind = ir.VectorType(_i32, len(places))
    return builder.shuffle_vector(x, y, ir.Constant(kind, places))


@intrinsic
def splat_halves(_context: Any, scalar: Any) -> Any:
    """32 times the lower 16 bits of an int32."""

    def emit(builder: Any, x: Any) -> Any:
        narrow = builder.trunc(x, ir.IntType(16))
        empty = ir.Constant(_NARROW, ir.Undefined)
        one = builder.insert_element(empty, narrow, ir.Constant(_i32, 0))
        return _shuffle(builder, one, empty, [0] * COUNT)

    return operation(HALVES, emit, types.int32)


def _pick(offset: int) -> Any:
    """Every second half of two vectors."""

    def emit(builder: Any, a: Any, b: Any) -> Any:
        places = list(range(offset, 2 * COUNT, 2))
        return _shuffle(builder, builder.bitcast(a, _NARROW), builder.bitcast(b, _NARROW), places)

    return emit


@intrinsic
def lower_halves(_context: Any, a: Any, b: Any) -> Any:
    """The lower 16 bits of two vectors of int32."""
    return operation(HALVES, _pick(0), INTS, INTS)


@intrinsic
def upper_halves(_context: Any, a: Any, b: Any) -> Any:
    """The upper 16 bits of two vectors of int32."""
    return operation(HALVES, _pick(1), INTS, INTS)


def _raised(first: int) -> Any:
    """Sixteen halves from `first` on, each above sixteen zeros, as floats."""

    def emit(builder: Any, x: Any) -> Any:
        zeros = ir.Constant(_NARROW, [0] * COUNT)
        places = [place for i in range(first, first + LANES) for place in (COUNT, i)]
        wide = _shuffle(builder, x, zeros, places)
        return builder.bitcast(wide, ir.VectorType(ir.FloatType(), LANES))

    return emit


@intrinsic
def first_floats(_context: Any, halves: Any) -> Any:
    """The first sixteen of 32 bfloat16 bit patterns in float32."""
    return operation(FLOATS, _raised(0), HALVES)


@intrinsic
def last_floats(_context: Any, halves: Any) -> Any:
    """The last sixteen."""
    return operation(FLOATS, _raised(LANES), HALVES)


def _widened(first: int) -> Any:
    """Sixteen halves from `first` on as int32."""

    def emit(builder: Any, x: Any) -> Any:
        part = _shuffle(builder, x, x, list(range(first, first + LANES)))
        return builder.sext(part, ir.VectorType(ir.IntType(32), LANES))

    return emit


@intrinsic
def first_integers(_context: Any, halves: Any) -> Any:
    """The first sixteen of 32 signed halves in int32."""
    return operation(INTS, _widened(0), HALVES)


@intrinsic
def last_integers(_context: Any, halves: Any) -> Any:
    """The last sixteen."""
    return operation(INTS, _widened(LANES), HALVES)


def _truths(first: int) -> Any:
    def emit(builder: Any, x: Any) -> Any:
        return _shuffle(builder, x, x, list(range(first, first + LANES)))

    return emit


@intrinsic
def first_truths(_context: Any, mask: Any) -> Any:
    """The first sixteen of 32 truth values."""
    return operation(MASK, _truths(0), HALF_MASK)


@intrinsic
def last_truths(_context: Any, mask: Any) -> Any:
    """The last sixteen."""
    return operation(MASK, _truths(LANES), HALF_MASK)


@intrinsic
def any_bit(_context: Any, halves: Any) -> Any:
    """Where any bit is set."""

    def emit(builder: Any, x: Any) -> Any:
        return builder.icmp_unsigned("!=", x, ir.Constant(_NARROW, [0] * COUNT))

    return operation(HALF_MASK, emit, HALVES)


def _saturating(name: str) -> Any:
    def emit(builder: Any, a: Any, b: Any) -> Any:
        shape = ir.FunctionType(_NARROW, [_NARROW, _NARROW])
        function = cgutils.get_or_insert_function(builder.module, shape, f"llvm.{name}.v{COUNT}i16")
        return builder.call(function, (a, b))

    return emit


@intrinsic
def add_within(_context: Any, a: Any, b: Any) -> Any:
    """Sums, limited to the range of int16."""
    return operation(HALVES, _saturating("sadd.sat"), HALVES, HALVES)


@intrinsic
def subtract_within(_context: Any, a: Any, b: Any) -> Any:
    """Differences, limited to the range of int16."""
    return operation(HALVES, _saturating("ssub.sat"), HALVES, HALVES)


@intrinsic
def smaller(_context: Any, a: Any, b: Any) -> Any:
    """The smaller of two signed numbers."""
    return operation(HALVES, _saturating("smin"), HALVES, HALVES)


@intrinsic
def larger(_context: Any, a: Any, b: Any) -> Any:
    """The larger."""
    return operation(HALVES, _saturating("smax"), HALVES, HALVES)


@intrinsic
def read_halves(_context: Any, address: Any, like: Any) -> Any:
    """32 numbers of `like`'s type, uint8 or uint16, from an address."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        stored = ir.VectorType(context.get_value_type(like), COUNT)
        value = builder.load(builder.inttoptr(arguments[0], stored.as_pointer()), align=1)
        return builder.zext(value, _NARROW) if like.bitwidth < 16 else value

    return HALVES(types.int64, like), build


@intrinsic
def write_halves(_context: Any, address: Any, like: Any, value: Any) -> Any:
    """32 numbers as `like`'s type, uint8 or uint16, to an address; upper bits are dropped."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        stored = ir.VectorType(context.get_value_type(like), COUNT)
        lanes = arguments[2]
        if like.bitwidth < 16:
            lanes = builder.trunc(lanes, stored)
        builder.store(lanes, builder.inttoptr(arguments[0], stored.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, like, HALVES), build
