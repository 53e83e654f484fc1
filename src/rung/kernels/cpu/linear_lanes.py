"""Codes that become values inside a product, sixteen at a time, written for LLVM directly.

Values are without the scale. There are two forms, told apart by the dtype of the tables:

- float32: a value is the product of one factor for every four bits of its code, each chosen from
  sixteen in a register.
- int32, for an LNS of eight bits whose base factor divides 16: the bits of a float are put
  together from a table and one shift, see `exponent_tables`.

No index is checked.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from rung.kernels.cpu.jit import intrinsic
from rung.kernels.cpu.simd import LANES, emit_look_up

TILE = 4  # rows of values that lie side by side

FLOATS, INTS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)
_INDEX, _INT = ir.IntType(types.intp.bitwidth), ir.IntType(32)


def has_exponents(bits: int, base_factor: int) -> bool:
    """Whether there are `exponent_tables` for an LNS."""
    return bits == 8 and base_factor in (2, 4, 8, 16)


def exponent_tables(base_factor: int) -> Any:
    """int32 (48,): sixteen times a float's bits, a shift, and a mask.

    The magnitude m of an eight-bit code is worth 2^((m - 128 + gamma) / gamma): with m = gamma q
    + r a float of the exponent q - 128/gamma + 1 and the significand 2^(r/gamma). The low four bits
    of m give r and the lower bits of q. The high three, shifted, are the upper bits of q, which
    the table leaves 0; the sign above them, extended, is the float's after the same shift.

    Args:
        base_factor: gamma, 2, 4, 8 or 16.
    """
    low = np.arange(16)
    exponents = low // base_factor + 1 - 128 // base_factor
    table = np.ldexp(np.exp2(low % base_factor / base_factor), exponents).astype(np.float32)
    shift = 19 + (16 // base_factor).bit_length() - 1
    mask = np.uint32(1 << 31 | 7 << shift + 4).view(np.int32)
    return np.concatenate([table.view(np.int32), np.full(16, shift), np.full(16, mask)]).astype(
        np.int32
    )


def largest_exponent_value(base_factor: int) -> float:
    """What `exponent_tables` make of the largest code."""
    return float(2.0 ** ((base_factor - 1) / base_factor))


def data_of(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Pointer to an array's first element."""
    return context.make_array(kind)(context, builder, array).data


def vector_at(builder: Any, data: Any, at: Any, kind: Any = FLOATS) -> Any:
    """Pointer to sixteen numbers at data[at]."""
    return builder.bitcast(builder.gep(data, [at]), kind.as_pointer())


def after(builder: Any, at: Any, by: int) -> Any:
    """An index plus a constant."""
    return builder.add(at, ir.Constant(at.type, by))


def times(builder: Any, index: Any, by: int) -> Any:
    """An index times a constant."""
    return builder.mul(index, ir.Constant(index.type, by))


class Source:
    """Codes that become values, as intrinsics are given them.

    Args:
        context: numba's.
        builder: LLVM's.
        kinds: The types of three arguments: codes (uint8 or int16), tables, and words (uint16,
            signs of sixteen codes each; or None where codes hold them).
        arguments: Their values.
    """

    def __init__(self, context: Any, builder: Any, kinds: Any, arguments: Any) -> None:
        self.builder, self.arguments = builder, arguments
        codes, tables, words = kinds[0], kinds[1], kinds[2]
        self.codes = data_of(context, builder, codes, arguments[0])
        factors = data_of(context, builder, tables, arguments[1])
        self.exponents = tables.dtype == types.int32
        kind, count = (INTS, 3) if self.exponents else (FLOATS, codes.dtype.bitwidth // 4)
        places = [ir.Constant(_INDEX, LANES * i) for i in range(count)]
        self.tables = [
            builder.load(vector_at(builder, factors, place, kind), align=1) for place in places
        ]
        self.stored = ir.VectorType(context.get_value_type(codes.dtype), LANES)
        apart = words != types.none
        self.words = data_of(context, builder, words, arguments[2]) if apart else None

    def load(self, at: Any, word: Any) -> Any:
        """Values of sixteen codes from `at` on, whose signs are in a word."""
        code = self.builder.load(vector_at(self.builder, self.codes, at, self.stored), align=1)
        if self.exponents:
            return self._put_together(self.builder.sext(code, INTS))
        value = self._product(self.builder.zext(code, INTS))
        if self.words is None:
            return value
        return self._negated(value, self.builder.load(self.builder.gep(self.words, [word])))

    def fetch(self, at: Any) -> None:
        """Ask for the code at a place, which need not be inside, to be in a cache soon."""
        byte = ir.IntType(8).as_pointer()
        shape = ir.FunctionType(ir.VoidType(), [byte, _INT, _INT, _INT])
        call = cgutils.get_or_insert_function(self.builder.module, shape, "llvm.prefetch.p0i8")
        place = self.builder.bitcast(self.builder.gep(self.codes, [at]), byte)
        self.builder.call(call, [place, *(ir.Constant(_INT, i) for i in (0, 3, 1))])

    def _put_together(self, code: Any) -> Any:
        builder = self.builder
        table, shift, mask = self.tables
        above = builder.and_(builder.shl(code, shift), mask)
        return builder.bitcast(builder.xor(emit_look_up(builder, table, code), above), FLOATS)

    def _product(self, code: Any) -> Any:
        builder, factors = self.builder, []
        for digit, table in enumerate(self.tables):
            shift = ir.Constant(INTS, [4 * digit] * LANES)
            factors.append(emit_look_up(builder, table, builder.lshr(code, shift)))
        while len(factors) > 1:
            pairs = zip(factors[::2], factors[1::2], strict=True)
            factors = [builder.fmul(low, high) for low, high in pairs]
        return factors[0]

    def _negated(self, value: Any, word: Any) -> Any:
        """Sixteen values, negated where a bit of a uint16 is set."""
        builder = self.builder
        top = ir.Constant(INTS, [-(2**31)] * LANES)
        flipped = builder.bitcast(builder.xor(builder.bitcast(value, INTS), top), FLOATS)
        return builder.select(builder.bitcast(word, _BITS), flipped, value)


@intrinsic
def decode_steps(
    _context: Any, codes: Any, tables: Any, words: Any, at: Any, word: Any, steps: Any, out: Any,
    to: Any,
) -> Any:  # fmt: skip
    """Sixteen values a step of codes[at:], to every `TILE`-th vector of out[to:].

    Args:
        codes: See `Source`; as are tables and words.
        tables: Of either form.
        words: Signs, or None.
        at: First code.
        word: Place of the first signs.
        steps: How many times sixteen.
        out: float32.
        to: First place in it.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, _, _, at, word, steps, _, to = arguments
        source = Source(context, builder, signature.args, arguments)
        result = data_of(context, builder, signature.args[6], arguments[6])
        with cgutils.for_range(builder, steps) as loop:
            place = builder.add(at, times(builder, loop.index, LANES))
            value = source.load(place, builder.add(word, loop.index))
            where = builder.add(to, times(builder, loop.index, TILE * LANES))
            builder.store(value, vector_at(builder, result, where), align=1)
        return context.get_dummy_value()

    index = types.intp
    return types.void(codes, tables, words, index, index, index, out, index), build
