"""The loop over groups of equal scale that the logarithmic formats share, compiled by numba."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import types

from rung.kernels.cpu import simd
from rung.kernels.cpu.draw_loops import drawn, draws_at, uniform_of
from rung.kernels.cpu.jit import intrinsic, jit, lane
from rung.kernels.cpu.rung_lanes import INFINITE, SMALLEST_NORMAL, group_scale
from rung.kernels.cpu.simd import LANES, load, pointer, prefetch, store, stream
from rung.kernels.group_scales import READY

_f32, _i32 = np.float32, np.int32
AHEAD = 2048  # bytes, half a page: what the processor itself asks for ends with one
_SHORT = 256  # elements up to which a group is not worth a call
_PIECE = 1024  # elements between two looks for slow ones: some pieces in a thousand have any
# Bytes of a call: sixteen numbers, results and draws, then a word of slow lanes for each sixteen.
_SLOW = 3 * 4 * LANES
_MEMORY = _SLOW + 2 * (_PIECE // LANES)


@lane
def _chance(draws: Any, i: Any) -> Any:
    return _f32(-1.0) if draws is None else uniform_of(draws[i])


@intrinsic
def outline(_context: Any) -> Any:
    """Keep the function that calls this from being copied to where it is called.

    A loop in a function without calls has its constants in registers.
    """

    def build(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        # numba hands a lane's wish to be copied down to what it calls.
        builder.function.attributes.discard("alwaysinline")
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), build


def rounding_loop(constants: Any, of_scale: Any, sixteen: Any, one: Any) -> Callable[..., Any]:
    """The loop of a format.

    Args:
        constants: Of a plan: what stays in registers, a tuple.
        of_scale: Of a normal scale's bits and the constants: what a group needs, a tuple.
        sixteen: Of the bits of numbers, their draws or None, both tuples, and `coded`: codes or
            bits of values, and which lanes `one` has to make.
        one: Of a number's bits, a scale's bits, the plan, a uniform (negative: nearest) and
            `coded`: its code or the bits of its value.
    """

    @jit
    def repair(
        x: Any, draws: Any, start: Any, end: Any, out: Any, slow: Any, scale: Any, plan: Any,
        coded: Any,
    ) -> None:  # fmt: skip
        """Make the slow lanes of x[start:end] one by one."""
        for i in range(start, end, LANES):
            word = np.int64(slow[(i - start) // LANES])
            for place in range(LANES if word else 0):
                if (word >> place) & 1:
                    out[i + place] = one(
                        x[i + place], scale, plan, _chance(draws, i + place), coded
                    )

    @lane
    def piece(
        x: Any, draws: Any, first: Any, last: Any, out: Any, fixed: Any, group: Any, streamed: Any,
        coded: Any, words: Any,
    ) -> Any:  # fmt: skip
        """Round x[first:last], whole vectors; whether there are slow lanes, named in `words`."""
        at, any_slow = x.ctypes.data + AHEAD, np.int64(0)
        for i in range(first, last, LANES):
            prefetch(at + 4 * i)
            rounded, slow = sixteen(load(x, i), draws_at(draws, i), fixed, group, coded)
            word = simd.bits_of_mask(slow)
            words[(i - first) // LANES] = word
            any_slow |= np.int64(word)
            if streamed:
                stream(out, i, rounded)
            else:
                store(out, i, rounded)
        return any_slow

    @jit
    def pieces(
        x: Any, draws: Any, start: Any, end: Any, out: Any, scale: Any, plan: Any, streamed: Any,
        coded: Any, slow_at: Any,
    ) -> Any:  # fmt: skip
        """Round pieces of x[start:end] up to the first with slow lanes; the end of the last one."""
        outline()
        fixed = constants(plan)
        group = of_scale(scale, fixed)
        words = numba.carray(pointer(slow_at, np.uint16(0)), _PIECE // LANES)
        for first in range(start, end, _PIECE):
            last = min(first + _PIECE, end)
            if piece(x, draws, first, last, out, fixed, group, streamed, coded, words):
                return last
        return end

    @lane
    def span(
        x: Any, draws: Any, start: Any, end: Any, out: Any, scale: Any, plan: Any, streamed: Any,
        coded: Any, slow_at: Any,
    ) -> None:  # fmt: skip
        """Round x[start:end], a multiple of sixteen, with a normal scale."""
        words = numba.carray(pointer(slow_at, np.uint16(0)), _PIECE // LANES)
        while start < end:
            last = pieces(x, draws, start, end, out, scale, plan, streamed, coded, slow_at)
            first = start + (last - start - 1) // _PIECE * _PIECE
            repair(x, draws, first, last, out, words, scale, plan, coded)
            start = last

    @lane
    def short_span(
        x: Any, draws: Any, start: Any, end: Any, out: Any, scale: Any, plan: Any, fixed: Any,
        coded: Any, slow_at: Any,
    ) -> None:  # fmt: skip
        """`span` of one piece, without the call."""
        words = numba.carray(pointer(slow_at, np.uint16(0)), _PIECE // LANES)
        group = of_scale(scale, fixed)
        if piece(x, draws, start, end, out, fixed, group, False, coded, words):
            repair(x, draws, start, end, out, words, scale, plan, coded)

    @jit
    def tail(
        x: Any, draws: Any, start: Any, end: Any, out: Any, scale: Any, plan: Any, coded: Any,
        memory: Any, kind: Any,
    ) -> None:  # fmt: skip
        """`span` for fewer than sixteen numbers, in the bytes at `memory`."""
        given = numba.carray(pointer(memory, _i32(0)), LANES)
        result = numba.carray(pointer(memory + 64, kind), LANES)
        chances = numba.carray(pointer(memory + 128, np.int16(0)), LANES)
        count = end - start
        for place in range(count):
            given[place] = x[start + place]
        if draws is None:
            span(given, None, 0, LANES, result, scale, plan, False, coded, memory + _SLOW)
        else:
            for place in range(count):
                chances[place] = draws[start + place]
            span(given, chances, 0, LANES, result, scale, plan, False, coded, memory + _SLOW)
        for place in range(count):
            out[start + place] = result[place]

    @jit
    def round_groups(
        addresses: Any, groups: Any, places: Any, layout: Any, draws: Any, kind: Any, coded: Any,
        plan: Any,
    ) -> Any:  # fmt: skip
        """Round groups of equal scale; how many of those seen are not finite.

        Args:
            addresses: Of contiguous float32 values, of float32 scales, of results, of draws.
            groups: First and end group.
            places: Elements outside [first, end) are left alone.
            layout: size, length of a row, block, rows of scales, where scales come from (see
                `groups`), whether to write past the caches, bits of the highest power of two.
            draws: A zero of int16, one of which there is for an element; None for rounding to
                nearest.
            kind: A zero of the results' dtype; int32 for the bits of values.
            coded: None for values, else anything.
            plan: The format's numbers.
        """
        x_at, scales_at, out_at, _ = addresses
        size, length, block, rows, source, streamed, highest = layout
        x = numba.carray(pointer(x_at, _i32(0)), size)
        scales = numba.carray(pointer(scales_at, _i32(0)), size)
        out = numba.carray(pointer(out_at, kind), size)
        chances = drawn(addresses[3], draws, size)
        memory, bad = np.zeros(_MEMORY // 4, np.int32), 0
        memory_at, fixed = memory.ctypes.data, constants(plan)
        slow_at = memory_at + _SLOW
        blocks = (length + block - 1) // block
        row = groups[0] // blocks
        column = groups[0] - row * blocks
        for _ in range(groups[0], groups[1]):
            start = row * length + column * block
            end = min(start + block, (row + 1) * length)
            place = (row % rows) * blocks + column if rows > 1 else column
            bits = scales[place]
            if source < READY:
                bits = group_scale(x, start, end, bits, source, highest)
                scales[place] = bits
                bad += bits >= INFINITE
            start, end = max(start, places[0]), min(end, places[1])
            if SMALLEST_NORMAL <= bits < INFINITE:
                whole = start + ((end - start) & -LANES)
                if whole - start > _SHORT:
                    span(x, chances, start, whole, out, bits, plan, streamed != 0, coded, slow_at)
                elif start < whole:
                    short_span(x, chances, start, whole, out, bits, plan, fixed, coded, slow_at)
                if whole < end:
                    tail(x, chances, whole, end, out, bits, plan, coded, memory_at, kind)
            else:
                for i in range(start, end):
                    out[i] = one(x[i], bits, plan, _chance(chances, i), coded)
            column += 1
            if column == blocks:
                row, column = row + 1, 0
        # Only its address was in use: so numba does not free it before the last group.
        return bad + memory[0] * 0

    loop: Callable[..., Any] = round_groups
    return loop
