"""Vectors from and to memory for numba: sixteen lanes of `simd`, by array and index or by address.

Nothing is checked: all sixteen must lie inside. Integers of 8 and 16 bits are int32 in a vector,
and lose the bits that don't fit on the way back. Importing this imports numba.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from rung.kernels.cpu.jit import intrinsic
from rung.kernels.cpu.simd import FLOATS, INTS, LANES, MASK, vector_of

_i32_type = ir.IntType(32)


def _i32(value: int) -> ir.Constant:
    return ir.Constant(_i32_type, value)


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Pointer to array[index] for contiguous arrays."""
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, arguments[0])
    return cgutils.gep(builder, array.data, arguments[1])


def _wide(dtype: Any) -> Any:
    """The vector that numbers of a dtype are loaded as; None if there is none."""
    if dtype == types.float32:
        return FLOATS
    return INTS if isinstance(dtype, types.Integer) and dtype.bitwidth <= 32 else None


@intrinsic
def load(_context: Any, array: Any, index: Any) -> Any:
    """array[index : index + 16] of a contiguous array; integers of 8 and 16 bits become int32."""
    result = _wide(array.dtype)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, signature, arguments)
        stored = context.get_value_type(array.dtype)
        vector = builder.bitcast(pointer, ir.VectorType(stored, LANES).as_pointer())
        value = builder.load(vector, align=1)
        if result is INTS and array.dtype.bitwidth < 32:
            extend = builder.sext if array.dtype.signed else builder.zext
            value = extend(value, vector_of("int32"))
        return value

    return result(array, types.intp), build


@intrinsic
def store(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index : index + 16] = value; int32 lanes lose the bits that don't fit."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _address(context, builder, signature, arguments)
        stored = ir.VectorType(context.get_value_type(array.dtype), LANES)
        lanes = arguments[2]
        if value == INTS and array.dtype.bitwidth < 32:
            lanes = builder.trunc(lanes, stored)
        builder.store(lanes, builder.bitcast(pointer, stored.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), build


@intrinsic
def stream(_context: Any, array: Any, index: Any, value: Any) -> Any:
    """`store` of float32 or int32 past the caches; the address must be a multiple of 64 bytes.

    For results far larger than a cache: the processor does not read what is to be overwritten.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _address(context, builder, signature, arguments)
        vector = builder.bitcast(place, arguments[2].type.as_pointer())
        written = builder.store(arguments[2], vector, align=64)
        written.set_metadata("nontemporal", builder.module.add_metadata([_i32(1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), build


@intrinsic
def read(_context: Any, address: Any, like: Any) -> Any:
    """`load` of sixteen numbers of `like`'s type from an address."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        stored = ir.VectorType(context.get_value_type(like), LANES)
        value = builder.load(builder.inttoptr(arguments[0], stored.as_pointer()), align=1)
        if isinstance(like, types.Integer) and like.bitwidth < 32:
            extend = builder.sext if like.signed else builder.zext
            value = extend(value, vector_of("int32"))
        return value

    return _wide(like)(types.int64, like), build


@intrinsic
def write(_context: Any, address: Any, like: Any, value: Any) -> Any:
    """`store` of sixteen numbers as `like`'s type to an address."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        stored = ir.VectorType(context.get_value_type(like), LANES)
        lanes = arguments[2]
        if isinstance(like, types.Integer) and like.bitwidth < 32:
            lanes = builder.trunc(lanes, stored)
        builder.store(lanes, builder.inttoptr(arguments[0], stored.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, like, value), build


@intrinsic
def read_bits(_context: Any, address: Any) -> Any:
    """Sixteen truth values from the two bytes at an address, the lowest bit first."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(LANES).as_pointer())
        return builder.bitcast(builder.load(place, align=1), ir.VectorType(ir.IntType(1), LANES))

    return MASK(types.int64), build


@intrinsic
def read_splat(_context: Any, address: Any) -> Any:
    """Sixteen times the int32 at an address."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _i32_type.as_pointer())
        vector = vector_of("int32")
        one = builder.insert_element(
            ir.Constant(vector, ir.Undefined), builder.load(place, align=1), _i32(0)
        )
        return builder.shuffle_vector(one, one, ir.Constant(vector, [0] * LANES))

    return INTS(types.int64), build


@intrinsic
def write_past(_context: Any, address: Any, value: Any) -> Any:
    """`write` of floats past the caches, as `stream`; the address is a multiple of 64."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], arguments[1].type.as_pointer())
        written = builder.store(arguments[1], place, align=64)
        written.set_metadata("nontemporal", builder.module.add_metadata([_i32(1)]))
        return context.get_dummy_value()

    return types.void(types.int64, FLOATS), build


@intrinsic
def prefetch(_context: Any, address: Any) -> Any:
    """Ask for the cache line at an address, which may lie outside of any tensor."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        shape = ir.FunctionType(ir.VoidType(), [byte, *[_i32_type] * 3])
        call = cgutils.get_or_insert_function(builder.module, shape, "llvm.prefetch.p0i8")
        builder.call(call, [builder.inttoptr(arguments[0], byte), _i32(0), _i32(3), _i32(1)])
        return context.get_dummy_value()

    return types.void(types.int64), build


@intrinsic
def pointer(_context: Any, address: Any, like: Any) -> Any:
    """A pointer to numbers of `like`'s type at an address; `numba.carray` makes it an array."""
    result = types.CPointer(like)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(result))

    return result(types.int64, like), build
