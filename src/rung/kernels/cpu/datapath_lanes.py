"""Vectors of eight bins for numba, in float32 or float64. Importing this imports numba.

A bin's content x is x + 1/2 here, in units in which the bin's range is (-2, 2): it is symmetric
then, so that one comparison of magnitudes bounds it, and a sum leaves it if and only if bit 30 of a
float32 (62 of a float64), the highest of its exponent, is set.
"""

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types

from rung.kernels.cpu.jit import intrinsic
from rung.kernels.cpu.simd import Vector, operation

COUNT = 8
_SINGLES, _DOUBLES = Vector("float32", COUNT), Vector("float64", COUNT)
_FLOAT = {"float32": ir.FloatType(), "float64": ir.DoubleType()}
_BITS = {"float32": 32, "float64": 64}
_features = llvm.get_host_cpu_features()
_HAS_RANGE = bool(_features.get("avx512dq")) and bool(_features.get("avx512vl"))


def _wide(kind: str) -> ir.VectorType:
    return ir.VectorType(_FLOAT[kind], COUNT)


def _whole(kind: str) -> ir.VectorType:
    return ir.VectorType(ir.IntType(_BITS[kind]), COUNT)


def _every(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * COUNT)


def _call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    shape = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, shape, name), arguments)


@intrinsic
def read_bins(_context: Any, address: Any, like: Any) -> Any:
    """Eight numbers of `like`'s type from an address."""
    result = _SINGLES if like == types.float32 else _DOUBLES

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _wide(result.kind).as_pointer())
        return builder.load(place, align=4)

    return result(types.int64, like), build


@intrinsic
def write_bins(_context: Any, address: Any, value: Any) -> Any:
    """Eight numbers to an address."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], arguments[1].type.as_pointer())
        builder.store(arguments[1], place, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, value), build


@intrinsic
def read_move(_context: Any, address: Any) -> Any:
    """The int32 at an address, as int64."""

    def emit(builder: Any, place: Any) -> Any:
        move = builder.load(builder.inttoptr(place, ir.IntType(32).as_pointer()), align=4)
        return builder.sext(move, ir.IntType(64))

    return operation(types.int64, emit, types.int64)


@intrinsic
def nothing(_context: Any, like: Any) -> Any:
    """Zeros."""
    return operation(like, lambda _builder, x: ir.Constant(x.type, [0.0] * COUNT), like)


@intrinsic
def plus(_context: Any, x: Any, y: Any) -> Any:
    """Sums."""
    return operation(x, lambda builder, a, b: builder.fadd(a, b), x, x)


@intrinsic
def bits_of_either(_context: Any, x: Any, y: Any, z: Any) -> Any:
    """Bits that are set in any of three."""

    def emit(builder: Any, *values: Any) -> Any:
        whole = _whole(x.kind)
        a, b, c = (builder.bitcast(value, whole) for value in values)
        return builder.bitcast(builder.or_(a, builder.or_(b, c)), _wide(x.kind))

    return operation(x, emit, x, x, x)


@intrinsic
def bounded(_context: Any, x: Any, limit: Any) -> Any:
    """The nearest numbers from -limit to limit."""

    def emit(builder: Any, value: Any, most: Any) -> Any:
        if not _HAS_RANGE:
            least = builder.fneg(most)
            value = builder.select(builder.fcmp_ordered(">", value, most), most, value)
            return builder.select(builder.fcmp_ordered("<", value, least), least, value)
        # 2: of two numbers the one of less magnitude, with the first's sign.
        i32 = ir.IntType(32)
        rest = [value, most, i32(2), value, ir.IntType(8)(255)]
        if x == _SINGLES:
            return _call(builder, "llvm.x86.avx512.mask.range.ps.256", value.type, *rest)
        return _call(builder, "llvm.x86.avx512.mask.range.pd.512", value.type, *rest, i32(4))

    return operation(x, emit, x, x)


@intrinsic
def wrapped(_context: Any, x: Any) -> Any:
    """Numbers of [-2, 2) that differ by multiples of 4, exactly."""

    def emit(builder: Any, value: Any) -> Any:
        name = f"v{COUNT}f{_BITS[x.kind]}"
        quarter = builder.fmul(value, _every(value.type, 0.25))
        turns = _call(builder, f"llvm.rint.{name}", value.type, quarter)
        four = _every(value.type, -4.0)
        return _call(builder, f"llvm.fma.{name}", value.type, turns, four, value)

    return operation(x, emit, x)


@intrinsic
def remembered(_context: Any, history: Any, x: Any) -> Any:
    """History's bits, two places up, and the sign and the highest exponent bit of x below them."""

    def emit(builder: Any, past: Any, value: Any) -> Any:
        whole = _whole(x.kind)
        words = [builder.bitcast(bits, whole) for bits in (past, value)]
        name = f"llvm.fshl.v{COUNT}i{_BITS[x.kind]}"
        moved = _call(builder, name, whole, *words, _every(whole, 2))
        return builder.bitcast(moved, _wide(x.kind))

    return operation(x, emit, x, x)


@intrinsic
def count_events(_context: Any, address: Any, history: Any) -> Any:
    """Add the number of remembered exponent bits to eight integers of a bin's size, in memory."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole, bits = _whole(history.kind), _BITS[history.kind]
        mask = _every(whole, int("5" * (bits // 4), 16))
        events = builder.and_(builder.bitcast(arguments[1], whole), mask)
        counts = _call(builder, f"llvm.ctpop.v{COUNT}i{bits}", whole, events)
        place = builder.inttoptr(arguments[0], whole.as_pointer())
        builder.store(builder.add(builder.load(place, align=4), counts), place, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, history), build


@intrinsic
def any_left(_context: Any, x: Any) -> Any:
    """Whether any of sums, or of `bits_of_either` of them, is outside of a bin's range."""

    def emit(builder: Any, value: Any) -> Any:
        whole, bits = _whole(x.kind), _BITS[x.kind]
        seen = builder.and_(builder.bitcast(value, whole), _every(whole, 1 << (bits - 2)))
        word = _call(builder, f"llvm.vector.reduce.or.v{COUNT}i{bits}", whole.element, seen)
        return builder.icmp_unsigned("!=", word, whole.element(0))

    return operation(types.boolean, emit, x)
