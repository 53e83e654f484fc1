"""Vectors of sixteen lanes for numba: what a loop over them does is what the processor does.

LLVM vectorises a plain loop if it can prove that arrays don't overlap, and gives up on tables. Here
each operation is one on a vector: one AVX-512 instruction, two AVX2 or four NEON ones. Floats and
32-bit integers have their operators; nothing is reordered or contracted, so every processor gives
the same bits.

    x = load(array, i)            # sixteen float32 or int32 of an array, see `memory_lanes`
    store(array, i, x * x + splat(np.float32(1)))
"""

import operator
from typing import Any, ClassVar

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from rung.kernels.cpu.jit import intrinsic

LANES = 16


class Vector(types.Type):  # type: ignore[misc,unused-ignore]
    """Sixteen numbers, or the sixteen truth values of a comparison; see also `half_lanes`."""

    def __init__(self, kind: str, count: int = LANES) -> None:
        self.kind, self.count = kind, count
        super().__init__(name=f"{kind}x{count}")


FLOATS, INTS, MASK = Vector("float32"), Vector("int32"), Vector("bool")
_LLVM = {
    "float32": ir.FloatType(),
    "float64": ir.DoubleType(),
    "int32": ir.IntType(32),
    "int16": ir.IntType(16),
    "bool": ir.IntType(1),
}


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc,unused-ignore]
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(_LLVM[fe_type.kind], fe_type.count))


def vector_of(kind: str) -> ir.VectorType:
    """LLVM's type of sixteen numbers or truth values."""
    return ir.VectorType(_LLVM[kind], LANES)


@intrinsic
def splat(_context: Any, scalar: Any) -> Any:
    """Sixteen times a float32 or int32."""
    result = FLOATS if scalar == types.float32 else INTS
    if scalar not in (types.float32, types.int32):
        return None

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = vector_of(result.kind)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), arguments[0], _i32(0))
        return builder.shuffle_vector(
            one,
            ir.Constant(vector, ir.Undefined),
            ir.Constant(ir.VectorType(_i32_type, LANES), [0] * LANES),
        )

    return result(scalar), build


_i32_type = ir.IntType(32)


def _i32(value: int) -> ir.Constant:
    return ir.Constant(_i32_type, value)


@intrinsic
def lanes(_context: Any) -> Any:
    """0, 1, ... 15 as int32."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(vector_of("int32"), list(range(LANES)))

    return INTS(), build


def operation(result: Any, emit: Any, *kinds: Any) -> Any:
    """An intrinsic of vectors that emits one instruction."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emit(builder, *arguments)

    return result(*kinds), build


def define(symbol: Any, kind: Vector, result: Vector, emit: Any) -> None:
    """Give an operator of Python its meaning between two vectors."""

    @infer_global(symbol)
    class _Typing(ConcreteTemplate):  # type: ignore[misc,unused-ignore]
        cases: ClassVar[list[Any]] = [signature(result, kind, kind)]

    @lower_builtin(symbol, kind, kind)  # type: ignore[untyped-decorator,unused-ignore]
    def _lower(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return emit(builder, *arguments)


for _symbol, _emit in {
    operator.add: lambda b, x, y: b.fadd(x, y),
    operator.sub: lambda b, x, y: b.fsub(x, y),
    operator.mul: lambda b, x, y: b.fmul(x, y),
    operator.truediv: lambda b, x, y: b.fdiv(x, y),
}.items():
    define(_symbol, FLOATS, FLOATS, _emit)
for _symbol, _emit in {
    operator.add: lambda b, x, y: b.add(x, y),
    operator.sub: lambda b, x, y: b.sub(x, y),
    operator.mul: lambda b, x, y: b.mul(x, y),
    operator.and_: lambda b, x, y: b.and_(x, y),
    operator.or_: lambda b, x, y: b.or_(x, y),
    operator.xor: lambda b, x, y: b.xor(x, y),
    operator.lshift: lambda b, x, y: b.shl(x, y),
    operator.rshift: lambda b, x, y: b.ashr(x, y),
}.items():
    define(_symbol, INTS, INTS, _emit)
for _symbol, _sign in {
    operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "==",
}.items():  # fmt: skip
    define(_symbol, FLOATS, MASK, lambda b, x, y, sign=_sign: b.fcmp_ordered(sign, x, y))
    define(_symbol, INTS, MASK, lambda b, x, y, sign=_sign: b.icmp_signed(sign, x, y))
define(operator.and_, MASK, MASK, lambda b, x, y: b.and_(x, y))
define(operator.or_, MASK, MASK, lambda b, x, y: b.or_(x, y))


@intrinsic
def shift_right(_context: Any, a: Any, b: Any) -> Any:
    """Logical shift to the right of int32 lanes: zeros come in from the top."""
    return operation(INTS, lambda builder, x, y: builder.lshr(x, y), INTS, INTS)


@intrinsic
def select(_context: Any, mask: Any, a: Any, b: Any) -> Any:
    """Lanes of `a` where the mask is true, else of `b`."""
    return operation(a, lambda builder, m, x, y: builder.select(m, x, y), MASK, a, a)


@intrinsic
def bits_of(_context: Any, value: Any) -> Any:
    """The bit patterns of floats."""
    return operation(INTS, lambda builder, x: builder.bitcast(x, vector_of("int32")), FLOATS)


@intrinsic
def float_of(_context: Any, value: Any) -> Any:
    """The floats of bit patterns."""
    return operation(FLOATS, lambda builder, x: builder.bitcast(x, vector_of("float32")), INTS)


@intrinsic
def to_float(_context: Any, value: Any) -> Any:
    """Integers as floats, rounded to nearest."""
    return operation(FLOATS, lambda builder, x: builder.sitofp(x, vector_of("float32")), INTS)


@intrinsic
def to_int(_context: Any, value: Any) -> Any:
    """Floats as integers, rounded towards zero; the float must have an int32."""
    return operation(INTS, lambda builder, x: builder.fptosi(x, vector_of("int32")), FLOATS)


def _call(builder: Any, name: str, *arguments: Any) -> Any:
    """A vector operation of LLVM's that has no instruction of its own."""
    kind = arguments[0].type
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(arguments)), f"llvm.{name}.v16f32"
    )
    return builder.call(function, arguments)


@intrinsic
def fma(_context: Any, x: Any, y: Any, z: Any) -> Any:
    """Fused x * y + z, rounded once."""
    return operation(
        FLOATS, lambda builder, a, b, c: _call(builder, "fma", a, b, c), FLOATS, FLOATS, FLOATS
    )


@intrinsic
def sqrt(_context: Any, x: Any) -> Any:
    """Square roots, correctly rounded."""
    return operation(FLOATS, lambda builder, a: _call(builder, "sqrt", a), FLOATS)


@intrinsic
def floor(_context: Any, x: Any) -> Any:
    """Largest integers that are not greater."""
    return operation(FLOATS, lambda builder, a: _call(builder, "floor", a), FLOATS)


@intrinsic
def round_even(_context: Any, x: Any) -> Any:
    """Nearest integers, ties to even."""
    return operation(FLOATS, lambda builder, a: _call(builder, "rint", a), FLOATS)


@intrinsic
def any_lane(_context: Any, mask: Any) -> Any:
    """Whether any lane is true, one bool."""

    def emit(builder: Any, x: Any) -> Any:
        word = builder.bitcast(x, ir.IntType(LANES))
        return builder.icmp_unsigned("!=", word, ir.Constant(ir.IntType(LANES), 0))

    return operation(types.boolean, emit, MASK)


@intrinsic
def sum_lanes(_context: Any, x: Any) -> Any:
    """Sum of sixteen floats: eight pairs (i, i + 8), then four, two, one."""

    def emit(builder: Any, value: Any) -> Any:
        half = LANES // 2
        while half:
            kind = ir.VectorType(_i32_type, half)
            low, high = (
                builder.shuffle_vector(
                    value,
                    ir.Constant(value.type, ir.Undefined),
                    ir.Constant(kind, list(range(first, first + half))),
                )
                for first in (0, half)
            )
            value, half = builder.fadd(low, high), half // 2
        return builder.extract_element(value, _i32(0))

    return operation(types.float32, emit, FLOATS)


_HAS_PERMUTE = bool(llvm.get_host_cpu_features().get("avx512f"))


def emit_look_up(builder: Any, values: Any, places: Any) -> Any:
    """What `look_up` is made of, for intrinsics of other files: LLVM's values in and out."""
    if _HAS_PERMUTE:
        suffix = "sf" if values.type == vector_of("float32") else "si"
        shape = ir.FunctionType(values.type, [values.type, places.type])
        permute = cgutils.get_or_insert_function(
            builder.module, shape, f"llvm.x86.avx512.permvar.{suffix}.512"
        )
        return builder.call(permute, (values, places))
    places = builder.and_(places, ir.Constant(places.type, [LANES - 1] * LANES))
    result = ir.Constant(values.type, ir.Undefined)
    for lane in range(LANES):
        place = builder.extract_element(places, _i32(lane))
        result = builder.insert_element(result, builder.extract_element(values, place), _i32(lane))
    return result


@intrinsic
def look_up(_context: Any, table: Any, index: Any) -> Any:
    """Lane i of the result is table[index[i] & 15]; both in registers."""
    return operation(table, emit_look_up, table, INTS)


@intrinsic
def mask_of_bits(_context: Any, word: Any) -> Any:
    """Sixteen truth values from the bits of a uint16, the lowest first."""

    def emit(builder: Any, bits: Any) -> Any:
        return builder.bitcast(bits, ir.VectorType(ir.IntType(1), LANES))

    return operation(MASK, emit, types.uint16)


@intrinsic
def bits_of_mask(_context: Any, mask: Any) -> Any:
    """The inverse of `mask_of_bits`."""
    return operation(types.uint16, lambda b, x: b.bitcast(x, ir.IntType(LANES)), MASK)
