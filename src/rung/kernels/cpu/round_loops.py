"""The loop over groups of equal scale that the logarithmic formats share, compiled by numba."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from rung.kernels.cpu import simd
from rung.kernels.cpu.draw_loops import drawn, draws_at, uniform_of
from rung.kernels.cpu.jit import jit, lane
from rung.kernels.cpu.rung_lanes import INFINITE, SMALLEST_NORMAL, group_scale
from rung.kernels.cpu.simd import LANES, load, pointer, prefetch, store, stream
from rung.kernels.group_scales import READY

_f32, _i32 = np.float32, np.int32
AHEAD = 2048  # bytes, half a page: what the processor itself asks for ends with one


@lane
def _chance(draws: Any, i: Any) -> Any:
    return _f32(-1.0) if draws is None else uniform_of(draws[i])


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
        x: Any, draws: Any, i: Any, rounded: Any, slow: Any, scale: Any, plan: Any, coded: Any
    ) -> Any:
        """Sixteen results with those of slow lanes made one by one."""
        memory = np.empty(LANES, np.int32)
        store(memory, 0, rounded)
        for place in range(LANES):
            if (slow >> place) & 1:
                memory[place] = one(x[i + place], scale, plan, _chance(draws, i + place), coded)
        return load(memory, 0)

    @lane
    def span(
        x: Any, draws: Any, start: Any, end: Any, out: Any, scale: Any, plan: Any, fixed: Any,
        streamed: Any, coded: Any,
    ) -> None:  # fmt: skip
        """Round x[start:end], a multiple of sixteen, with a normal scale."""
        group, at = of_scale(scale, fixed), x.ctypes.data + AHEAD
        for i in range(start, end, LANES):
            prefetch(at + 4 * i)
            rounded, slow = sixteen(load(x, i), draws_at(draws, i), fixed, group, coded)
            if simd.any_lane(slow):
                word = np.int64(simd.bits_of_mask(slow))
                rounded = repair(x, draws, i, rounded, word, scale, plan, coded)
            if streamed:
                stream(out, i, rounded)
            else:
                store(out, i, rounded)

    @jit
    def tail(
        x: Any, draws: Any, start: Any, end: Any, out: Any, scale: Any, plan: Any, coded: Any,
        memory: Any, kind: Any,
    ) -> None:  # fmt: skip
        """`span` for fewer than sixteen numbers, in 192 bytes at `memory`."""
        given = numba.carray(pointer(memory, _i32(0)), LANES)
        result = numba.carray(pointer(memory + 64, kind), LANES)
        chances = numba.carray(pointer(memory + 128, np.int16(0)), LANES)
        count, fixed = end - start, constants(plan)
        for place in range(count):
            given[place] = x[start + place]
        if draws is None:
            span(given, None, 0, LANES, result, scale, plan, fixed, False, coded)
        else:
            for place in range(count):
                chances[place] = draws[start + place]
            span(given, chances, 0, LANES, result, scale, plan, fixed, False, coded)
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
        memory, bad = np.zeros(3 * LANES, np.int32), 0
        memory_at, fixed = memory.ctypes.data, constants(plan)
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
                if start < whole:
                    span(x, chances, start, whole, out, bits, plan, fixed, streamed != 0, coded)
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
