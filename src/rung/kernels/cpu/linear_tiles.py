"""The inner loops of `linear`, written for LLVM directly: what must stay in registers does.

A tile is four rows of the weight by four rows (or one) of the other factor. Vectors of four rows
lie side by side (sixteen columns of the first, of the second, ...): each factor is one stream.
No index is checked.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from rung.kernels.cpu.jit import intrinsic
from rung.kernels.cpu.linear_lanes import (
    FLOATS,
    INTS,
    TILE,
    Source,
    after,
    data_of,
    times,
    vector_at,
)
from rung.kernels.cpu.simd import LANES


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(FLOATS, [FLOATS] * 3), "llvm.fma.v16f32"
    )
    return builder.call(function, (x, y, z))


def _splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(FLOATS, ir.Undefined)
    one = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(INTS, [0] * LANES))


@intrinsic
def multiply_codes(
    _context: Any, codes: Any, tables: Any, words: Any, at: Any, word: Any, steps: Any, x: Any,
    width: Any, sums: Any, to: Any,
) -> Any:  # fmt: skip
    """Four rows of codes times one of x: sixteen sums each to sums[to:].

    Args:
        codes: See `Source`; as are tables and words.
        tables: Of either form.
        words: Signs, or None.
        at: First code of the first row.
        word: Place of its first signs; other rows follow `steps` later.
        steps: How many times sixteen a row has.
        x: float32, from 0 on.
        width: Codes from row to row.
        sums: float32.
        to: First place in it.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, _, _, at, word, steps, _, width, _, to = arguments
        source = Source(context, builder, signature.args, arguments)
        right, result = (data_of(context, builder, signature.args[i], arguments[i]) for i in (6, 8))
        zero = ir.Constant(FLOATS, [0.0] * LANES)
        running = [cgutils.alloca_once_value(builder, zero) for _ in range(TILE)]
        with cgutils.for_range(builder, steps) as loop:
            column = times(builder, loop.index, LANES)
            other = builder.load(vector_at(builder, right, column), align=1)
            place, signs = builder.add(at, column), builder.add(word, loop.index)
            ahead = times(builder, width, TILE)
            for total in running:
                # Rows are a page each or more: the processor's own prefetching starts anew there.
                source.fetch(builder.add(place, ahead))
                value = source.load(place, signs)
                builder.store(_fma(builder, value, other, builder.load(total)), total)
                place, signs = builder.add(place, width), builder.add(signs, steps)
        for i, total in enumerate(running):
            end = vector_at(builder, result, after(builder, to, LANES * i))
            builder.store(builder.load(total), end, align=1)
        return context.get_dummy_value()

    index = types.intp
    return types.void(codes, tables, words, index, index, index, x, index, sums, index), build


@intrinsic
def multiply_tile(
    _context: Any, values: Any, at: Any, x: Any, place: Any, steps: Any, sums: Any, to: Any
) -> Any:
    """Add to sixteen vectors of sums[to:], in the order (row of values, row of x).

    Args:
        values: float32, `TILE` rows side by side, from `at` on.
        at: First place.
        x: Likewise, from `place` on.
        place: First place.
        steps: How many times sixteen columns.
        sums: float32.
        to: First place in it.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, at, _, place, steps, _, to = arguments
        left, right, result = (
            data_of(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 5)
        )

        def vectors(data: Any, first: Any, count: int) -> list[Any]:
            return [
                vector_at(builder, data, after(builder, first, LANES * i)) for i in range(count)
            ]

        ends = vectors(result, to, TILE * TILE)
        running = [cgutils.alloca_once_value(builder, builder.load(end, align=1)) for end in ends]
        with cgutils.for_range(builder, steps) as loop:
            shift = times(builder, loop.index, TILE * LANES)
            others = vectors(right, builder.add(place, shift), TILE)
            others = [builder.load(other, align=1) for other in others]
            for i, value in enumerate(vectors(left, builder.add(at, shift), TILE)):
                value = builder.load(value, align=1)
                for other, total in zip(others, running[TILE * i : TILE * (i + 1)], strict=True):
                    builder.store(_fma(builder, value, other, builder.load(total)), total)
        for end, total in zip(ends, running, strict=True):
            builder.store(builder.load(total), end, align=1)
        return context.get_dummy_value()

    index = types.intp
    return types.void(values, index, x, index, index, sums, index), build


@intrinsic
def add_tile(
    _context: Any, values: Any, first: Any, second: Any, factors: Any, at: Any, stride: Any,
    steps: Any, out: Any, to: Any, far: Any,
) -> Any:  # fmt: skip
    """Add eight rows of values, times a factor each, to two rows: out[to:] and out[far:].

    Args:
        values: float32, `TILE` rows side by side from `first` on, the others from `second` on.
        first: First place.
        second: First place.
        factors: float32: eight from `at` on for the one row, eight from at + stride for the other.
        at: First place.
        stride: Between the two.
        steps: How many times sixteen columns.
        out: float32.
        to: First place in it.
        far: First place of the other row.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, first, second, _, at, stride, steps, _, to, far = arguments
        left, right, result = (
            data_of(context, builder, signature.args[i], arguments[i]) for i in (0, 3, 7)
        )

        def splats(place: Any) -> list[Any]:
            places = [builder.gep(right, [after(builder, place, i)]) for i in range(2 * TILE)]
            return [_splat(builder, builder.load(one)) for one in places]

        rows = ((to, splats(at)), (far, splats(builder.add(at, stride))))
        with cgutils.for_range(builder, steps) as loop:
            shift = times(builder, loop.index, TILE * LANES)
            vectors = [
                builder.load(vector_at(builder, left, after(builder, place, LANES * i)), align=1)
                for place in (builder.add(first, shift), builder.add(second, shift))
                for i in range(TILE)
            ]
            for place, weights in rows:
                column = builder.add(place, times(builder, loop.index, LANES))
                end = vector_at(builder, result, column)
                total = builder.load(end, align=1)
                for vector, weight in zip(vectors, weights, strict=True):
                    total = _fma(builder, vector, weight, total)
                builder.store(total, end, align=1)
        return context.get_dummy_value()

    i = types.intp
    return types.void(values, i, i, factors, i, i, i, out, i, i), build
