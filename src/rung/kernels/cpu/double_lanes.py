"""Vectors of eight float64 for numba. Importing this imports numba."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from rung.kernels.cpu.jit import intrinsic
from rung.kernels.cpu.simd import Vector, operation

COUNT = 8
DOUBLES = Vector("float64", COUNT)
LINE = Vector("bool", 4 * COUNT)  # truths of 32 bytes, four vectors' worth

_double, _i32 = ir.DoubleType(), ir.IntType(32)
_WIDE, _BYTES = ir.VectorType(_double, COUNT), ir.VectorType(ir.IntType(8), 4 * COUNT)


@intrinsic
def read_doubles(_context: Any, address: Any) -> Any:
    """Eight float64 from an address."""

    def emit(builder: Any, place: Any) -> Any:
        return builder.load(builder.inttoptr(place, _WIDE.as_pointer()), align=8)

    return operation(DOUBLES, emit, types.int64)


@intrinsic
def write_doubles(_context: Any, address: Any, value: Any) -> Any:
    """Eight float64 to an address."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _WIDE.as_pointer())
        builder.store(arguments[1], place, align=8)
        return context.get_dummy_value()

    return types.void(types.int64, DOUBLES), build


@intrinsic
def splat_double(_context: Any, address: Any) -> Any:
    """Eight times the float64 at an address."""

    def emit(builder: Any, place: Any) -> Any:
        one = builder.load(builder.inttoptr(place, _double.as_pointer()), align=8)
        empty = ir.Constant(_WIDE, ir.Undefined)
        first = builder.insert_element(empty, one, ir.Constant(_i32, 0))
        zeros = ir.Constant(ir.VectorType(_i32, COUNT), [0] * COUNT)
        return builder.shuffle_vector(first, empty, zeros)

    return operation(DOUBLES, emit, types.int64)


@intrinsic
def fma_doubles(_context: Any, x: Any, y: Any, z: Any) -> Any:
    """Fused x * y + z."""

    def emit(builder: Any, *values: Any) -> Any:
        shape = ir.FunctionType(_WIDE, [_WIDE] * 3)
        function = cgutils.get_or_insert_function(builder.module, shape, f"llvm.fma.v{COUNT}f64")
        return builder.call(function, values)

    return operation(DOUBLES, emit, DOUBLES, DOUBLES, DOUBLES)


@intrinsic
def bytes_from(_context: Any, address: Any, least: Any) -> Any:
    """Which of the 32 uint8 at an address are `least`, an int32, or more."""

    def emit(builder: Any, place: Any, limit: Any) -> Any:
        values = builder.load(builder.inttoptr(place, _BYTES.as_pointer()), align=1)
        empty = ir.Constant(_BYTES, ir.Undefined)
        narrow = builder.trunc(limit, ir.IntType(8))
        first = builder.insert_element(empty, narrow, ir.Constant(_i32, 0))
        zeros = ir.Constant(ir.VectorType(_i32, 4 * COUNT), [0] * (4 * COUNT))
        return builder.icmp_unsigned(">=", values, builder.shuffle_vector(first, empty, zeros))

    return operation(LINE, emit, types.int64, types.int32)


def _kept(part: int) -> Any:
    """An intrinsic: x where the part's eight truths hold, else y."""

    @intrinsic
    def choose(_context: Any, line: Any, x: Any, y: Any) -> Any:
        def emit(builder: Any, mask: Any, a: Any, b: Any) -> Any:
            places = list(range(COUNT * part, COUNT * (part + 1)))
            lanes = ir.Constant(ir.VectorType(_i32, COUNT), places)
            return builder.select(builder.shuffle_vector(mask, mask, lanes), a, b)

        return operation(DOUBLES, emit, LINE, DOUBLES, DOUBLES)

    return choose


kept_first, kept_second, kept_third, kept_fourth = (_kept(part) for part in range(4))
