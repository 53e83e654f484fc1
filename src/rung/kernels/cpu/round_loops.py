"""The loop over groups of equal scale that the logarithmic formats share, compiled by numba."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rung.kernels.cpu import simd
from rung.kernels.cpu.arrays import array_at, on_stack
from rung.kernels.cpu.draw_loops import drawn, draws_at, uniform_of
from rung.kernels.cpu.jit import called, jit, lane
from rung.kernels.cpu.lane_control import Variable, during, either, loop, when
from rung.kernels.cpu.lane_operands import choose
from rung.kernels.cpu.memory_lanes import load, prefetch, store, stream
from rung.kernels.cpu.rung_lanes import INFINITE, SMALLEST_NORMAL, group_scale
from rung.kernels.cpu.simd import LANES, splat
from rung.kernels.group_scales import READY

_f32, _i16, _i32, _i64, _u16 = np.float32, np.int16, np.int32, np.int64, np.uint16
AHEAD = 2048  # bytes, half a page: what the processor itself asks for ends with one
_SHORT = 256  # elements up to which a group is not worth a call
_PIECE = 1024  # elements between two looks for slow ones: some pieces in a thousand have any
_WORDS = _PIECE // LANES  # of slow lanes, sixteen bits each, in the bytes of sixteen int64


@lane
def _chance(draws: Any, i: Any) -> Any:
    return _f32(-1.0) if draws is None else uniform_of(draws[i])


@lane
def _arrays(places: Any, likes: Any, size: Any) -> Any:
    """Numbers' bits, draws or None, and results at three addresses."""
    x_at, chances_at, out_at = places
    like, draw = likes
    return (
        array_at(x_at, _i32(0), size),
        drawn(chances_at, draw, size),
        array_at(out_at, like, size),
    )


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
    piece, repair = _piece_of(sixteen), _repair_of(one)
    long = _long_of(constants, of_scale, piece, repair)
    group = _group_of(_others_of(long), _short_of(of_scale, piece, repair))
    groups_of = _groups_of(constants, group, repair)

    @jit
    def round_groups(
        addresses: Any, groups: Any, places: Any, layout: Any, draws: Any, kind: Any, coded: Any,
        plan: Any,
    ) -> None:  # fmt: skip
        """Round groups of equal scale.

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
        groups_of(addresses, groups, places, layout, (kind, draws), coded, plan)

    rounding: Callable[..., Any] = round_groups
    return rounding


# The parts of a format's loop: each makes one, of the format's own functions and the parts below.
# `places` are addresses of numbers, draws and results, `likes` zeros of results and draws.


def _piece_of(sixteen: Any) -> Any:
    @lane
    def piece(
        places: Any, likes: Any, first: Any, last: Any, fixed: Any, group: Any, streamed: Any,
        coded: Any, words_at: Any,
    ) -> Any:  # fmt: skip
        """Round elements first ... last - 1, whole vectors; slow lanes, named in words, if any."""
        x, chances, out = _arrays(places, likes, last)
        words, any_slow = array_at(words_at, _u16(0), _WORDS), Variable(_i64(0))
        for i in loop(first, last, LANES):
            prefetch(places[0] + 4 * i + AHEAD)
            rounded, slow = sixteen(load(x, i), draws_at(chances, i), fixed, group, coded)
            word = simd.bits_of_mask(slow)
            words[(i - first) // LANES] = word
            any_slow.now = any_slow.now | _i64(word)
            with either(streamed) as (past, through):
                with past:
                    stream(out, i, rounded)
                with through:
                    store(out, i, rounded)
        return any_slow.now

    return piece


def _repair_of(one: Any) -> Any:
    @called
    def repair(
        places: Any, likes: Any, first: Any, last: Any, words_at: Any, scale: Any, plan: Any,
        coded: Any,
    ) -> None:  # fmt: skip
        """Make the lanes of elements first ... last - 1 that words name one by one; 0: all."""
        x, chances, out = _arrays(places, likes, last)
        words = array_at(words_at, _u16(0), _WORDS)
        for i in loop(first, last, LANES):
            word = Variable(_i64(-1))
            with when(words_at != 0):
                word.now = words[(i - first) // LANES]
            for k in loop(i, choose(word.now == 0, i, min(i + LANES, last))):
                with when(((word.now >> (k - i)) & 1) != 0):
                    out[k] = one(x[k], scale, plan, _chance(chances, k), coded)

    return repair


def _long_of(constants: Any, of_scale: Any, piece: Any, repair: Any) -> Any:
    @called
    def pieces(
        places: Any, likes: Any, start: Any, end: Any, scale: Any, plan: Any, streamed: Any,
        coded: Any, words_at: Any,
    ) -> Any:  # fmt: skip
        """Round pieces up to the first with slow lanes; the end of the last one."""
        fixed = constants(plan)
        group = of_scale(scale, fixed)
        last, slow = Variable(start), Variable(_i64(0))
        for _ in during(lambda: (last.now < end) & (slow.now == 0)):
            first, last.now = last.now, min(last.now + _PIECE, end)
            slow.now = piece(
                places, likes, first, last.now, fixed, group, streamed, coded, words_at
            )
        return last.now

    @lane
    def long(
        places: Any, likes: Any, start: Any, end: Any, scale: Any, plan: Any, streamed: Any,
        coded: Any, words_at: Any,
    ) -> None:  # fmt: skip
        """Round elements start ... end - 1, whole vectors."""
        done = Variable(start)
        for _ in during(lambda: done.now < end):
            begin = done.now
            done.now = pieces(places, likes, begin, end, scale, plan, streamed, coded, words_at)
            first = begin + ((done.now - begin - 1) & _i64(-_PIECE))
            repair(places, likes, first, done.now, words_at, scale, plan, coded)

    return long


def _short_of(of_scale: Any, piece: Any, repair: Any) -> Any:
    @lane
    def short(
        places: Any, likes: Any, start: Any, end: Any, scale: Any, plan: Any, fixed: Any,
        coded: Any, words_at: Any,
    ) -> None:  # fmt: skip
        """Round elements start ... end - 1, whole vectors of one piece, without a call."""
        group = of_scale(scale, fixed)
        slow = piece(places, likes, start, end, fixed, group, np.bool_(False), coded, words_at)
        with when(slow != 0):
            repair(places, likes, start, end, words_at, scale, plan, coded)

    return short


def _others_of(long: Any) -> Any:
    @called
    def others(
        places: Any, likes: Any, start: Any, whole: Any, end: Any, scale: Any, plan: Any,
        streamed: Any, coded: Any, words_at: Any,
    ) -> None:  # fmt: skip
        """What `short` leaves: long groups, and the numbers after the last sixteen."""
        with when(whole - start > _SHORT):
            long(places, likes, start, whole, scale, plan, streamed, coded, words_at)
        with when(whole < end):
            rest(places, likes, whole, end, scale, plan, coded, words_at)

    @lane
    def rest(
        places: Any, likes: Any, start: Any, end: Any, scale: Any, plan: Any, coded: Any,
        words_at: Any,
    ) -> None:  # fmt: skip
        """Fewer than sixteen numbers go through copies with room for them."""
        x, chances, out = _arrays(places, likes, end)
        own, own_chances, result = on_stack(_i32(0)), on_stack(_i16(0)), on_stack(likes[0])
        for copy in (own, own_chances):
            store(copy, _i64(0), splat(_i32(0)))
        for i in loop(start, end):
            own[i - start] = x[i]
            if chances is not None:
                own_chances[i - start] = chances[i]
        copies = own.ctypes.data, own_chances.ctypes.data, result.ctypes.data
        none = np.bool_(False)
        long(copies, likes, _i64(0), _i64(LANES), scale, plan, none, coded, words_at)
        for i in loop(start, end):
            out[i] = result[i - start]

    return others


def _group_of(others: Any, short: Any) -> Any:
    @lane
    def group(
        places: Any, likes: Any, start: Any, end: Any, scale: Any, plan: Any, fixed: Any,
        streamed: Any, coded: Any,
    ) -> None:  # fmt: skip
        """Round elements start ... end - 1, which have a normal scale."""
        words_at = on_stack(_i64(0)).ctypes.data
        whole = start + ((end - start) & _i64(-LANES))
        # One call for all that is rare, since each costs groups of sixteen a few nanoseconds.
        with when((start < whole) & (whole - start <= _SHORT)):
            short(places, likes, start, whole, scale, plan, fixed, coded, words_at)
        with when((whole - start > _SHORT) | (whole < end)):
            others(places, likes, start, whole, end, scale, plan, streamed, coded, words_at)

    return group


def _groups_of(constants: Any, group: Any, repair: Any) -> Any:
    @lane
    def groups_of(
        addresses: Any, groups: Any, bounds: Any, layout: Any, likes: Any, coded: Any, plan: Any
    ) -> None:
        x_at, scales_at, out_at, chances_at = addresses
        size, length, block, rows, source, streamed, highest = layout
        places = x_at, chances_at, out_at
        x = array_at(x_at, _i32(0), size)
        scales, fixed = array_at(scales_at, _i32(0), size), constants(plan)
        blocks = (length + block - 1) // block
        row = Variable(groups[0] // blocks)
        column = Variable(groups[0] - row.now * blocks)
        for _ in loop(groups[0], groups[1]):
            start = row.now * length + column.now * block
            end, place = min(start + block, (row.now + 1) * length), Variable(column.now)
            with when(rows > 1):
                place.now = (row.now % rows) * blocks + column.now
            bits = Variable(scales[place.now])
            with when(source < READY):
                bits.now = group_scale(x, start, end, bits.now, source, highest)
                scales[place.now] = bits.now
            start, end = max(start, bounds[0]), min(end, bounds[1])
            scale = bits.now
            with either((scale >= SMALLEST_NORMAL) & (scale < INFINITE)) as (normal, other):
                with normal, when(start < end):
                    group(places, likes, start, end, scale, plan, fixed, streamed != 0, coded)
                with other:
                    repair(places, likes, start, end, _i64(0), scale, plan, coded)
            column.now = column.now + 1
            with when(column.now == blocks):
                row.now, column.now = row.now + 1, 0

    return groups_of
