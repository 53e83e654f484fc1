"""Loops from codes to values, compiled by numba: of an LNS without a table, of others by one."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from rung.kernels.cpu import simd
from rung.kernels.cpu.arrays import array_at, on_stack
from rung.kernels.cpu.float32_math import bits_of, float_of
from rung.kernels.cpu.jit import jit, lane
from rung.kernels.cpu.lane_control import Variable, either, loop, when
from rung.kernels.cpu.lane_operands import choose
from rung.kernels.cpu.memory_lanes import load, store, stream
from rung.kernels.cpu.rung_lanes import ONE, SIGN, gather
from rung.kernels.cpu.simd import LANES, look_up, select, splat

_f32, _i32 = np.float32, np.int32
_BITS, _SHIFT, _LAST, _FIRST, _MANTISSAS = 0, 1, 2, 4, 9  # places in the plan of `cpu.lns`


@lane
def _groups(places: Any, layout: Any, scales_at: Any) -> Iterator[Any]:
    """First element, end and scale of each group of equal scale among those asked for."""
    size, length, block, rows, _ = layout
    scales, blocks = array_at(scales_at, _f32(0.0), size), (length + block - 1) // block
    row, last = places[0] // length, places[1] - 1
    first, last_row = row * blocks + (places[0] - row * length) // block, last // length
    end = last_row * blocks + (last - last_row * length) // block + 1
    for group in loop(first, choose(places[0] < places[1], end, first)):
        row = group // blocks
        column = group - row * blocks
        start = row * length + column * block
        stop = min(min(start + block, (row + 1) * length), places[1])
        yield max(start, places[0]), stop, scales[(row % rows) * blocks + column]


@lane
def _put(out: Any, i: Any, value: Any, streamed: Any) -> None:
    with either(streamed) as (past, through):
        with past:
            stream(out, i, value)
        with through:
            store(out, i, value)


@lane
def _lns_table(plan: Any) -> Any:
    """Powers of the steps above e = last, which begins an octave, in bits."""
    gamma = (1 << plan[_SHIFT]) - 1
    mantissas, table = array_at(plan[_MANTISSAS], _i32(0), 2 * LANES), on_stack(_i32(0))
    for k in range(LANES):
        table[k] = mantissas[1 + (gamma & k)] + ONE
    return load(table, np.int64(0))


@lane
def _dropped(e: Any, drop: Any, top: Any) -> Any:
    """Exponent codes without their low bits, rounded to even."""
    low, one = splat(_i32(drop)), splat(_i32(1))
    half = splat(_i32((1 << drop >> 1) - 1))
    result = Variable(e)
    with when(drop != 0):
        kept = (e + half + ((e >> low) & one)) >> low
        result.now = select(kept < top, kept, top)
    return result.now


@lane
def _lns_values(code: Any, table: Any, factor: Any, plan: Any, drop: Any) -> Any:
    """Values of sixteen codes."""
    bits, last = plan[_BITS] + drop, splat(_i32(plan[_LAST]))
    e = _dropped(code & splat(_i32((1 << (bits - 1)) - 1)), drop, last)
    steps = e - last
    power = ((steps >> splat(_i32(plan[_SHIFT]))) << splat(_i32(23))) + look_up(table, steps)
    power = select(e >= splat(_i32(plan[_FIRST])), power, splat(_i32(0)))
    value = simd.bits_of(simd.float_of(power) * factor)
    sign = (code << splat(_i32(32 - bits))) & splat(SIGN)
    return simd.float_of(value | sign)


@jit
def lns(addresses: Any, places: Any, layout: Any, kind: Any, plan: Any, drop: Any) -> None:
    """Values of LNS codes: up to sixteen rungs an octave, all powers of two normal numbers.

    Args:
        addresses: Of codes, of float32 scales, of float32 results.
        places: First and end element.
        layout: size, length of a row, block, rows of scales, whether to write past the caches.
        kind: A zero of the codes' dtype.
        plan: `cpu.lns` fills it.
        drop: Low bits to round away.
    """
    _lns(addresses, places, layout, kind, plan, drop)


@lane
def _lns(addresses: Any, places: Any, layout: Any, kind: Any, plan: Any, drop: Any) -> None:
    codes, out = array_at(addresses[0], kind, layout[0]), array_at(addresses[2], _f32(0), layout[0])
    given, result, zero = on_stack(kind), on_stack(_f32(0)), np.int64(0)
    table = _lns_table(plan)
    store(given, zero, splat(_i32(0)))
    for start, end, scale in _groups(places, layout, addresses[1]):
        whole, factor = start + ((end - start) & np.int64(-LANES)), splat(scale)
        for i in loop(start, whole, LANES):
            value = _lns_values(load(codes, i), table, factor, plan, drop)
            _put(out, i, value, layout[4] != 0)
        with when(whole < end):
            for i in loop(whole, end):
                given[i - whole] = codes[i]
            store(result, zero, _lns_values(load(given, zero), table, factor, plan, drop))
            for i in loop(whole, end):
                out[i] = result[i - whole]


@jit
def take(addresses: Any, places: Any, layout: Any, kind: Any, table: Any, _drop: Any) -> None:
    """table[code] * scale for every code; arguments of `lns`, and values at scale 1."""
    _take(addresses, places, layout, kind, table)


@lane
def _take(addresses: Any, places: Any, layout: Any, kind: Any, table: Any) -> None:
    codes, out = array_at(addresses[0], kind, layout[0]), array_at(addresses[2], _f32(0), layout[0])
    mask, lanes = table.size - 1, splat(_i32(table.size - 1))
    for start, end, scale in _groups(places, layout, addresses[1]):
        whole, factor = start + ((end - start) & np.int64(-LANES)), splat(scale)
        for i in loop(start, whole, LANES):
            _put(out, i, gather(table, load(codes, i) & lanes) * factor, layout[4] != 0)
        for i in loop(whole, end):
            out[i] = table[np.int64(codes[i]) & mask] * scale


@jit
def ladder(addresses: Any, places: Any, layout: Any, kind: Any, table: Any, signs_at: Any) -> None:
    """`take` of magnitudes with signs from packed bits (at an address; 0: none, all positive)."""
    _ladder(addresses, places, layout, kind, table, signs_at)


@lane
def _ladder(addresses: Any, places: Any, layout: Any, kind: Any, table: Any, signs_at: Any) -> None:
    for start, end, scale in _groups(places, layout, addresses[1]):
        _signed(
            addresses, start, end, kind, table, signs_at, layout[0], scale, layout[4] != 0
        )  # fmt: skip


@lane
def _signed(
    addresses: Any, start: Any, end: Any, kind: Any, table: Any, signs_at: Any, size: Any,
    scale: Any, streamed: Any,
) -> None:  # fmt: skip
    """Elements start ... end - 1, of one scale; whole bytes of signs in vectors."""
    codes, out = array_at(addresses[0], kind, size), array_at(addresses[2], _f32(0.0), size)
    signs, mask = array_at(signs_at, np.uint8(0), (size + 7) // 8), table.size - 1
    even = min((start + 7) & np.int64(-8), end)
    whole = even + ((end - even) & np.int64(-LANES))
    lanes, factor = splat(_i32(mask)), splat(scale)
    for i in loop(even, whole, LANES):
        value = Variable(simd.bits_of(gather(table, load(codes, i) & lanes) * factor))
        with when(signs_at != 0):
            word = np.uint16(np.uint16(signs[i // 8]) | np.uint16(signs[i // 8 + 1]) << 8)
            negative = select(simd.mask_of_bits(word), splat(SIGN), splat(_i32(0)))
            value.now = value.now ^ negative
        _put(out, i, simd.float_of(value.now), streamed & (i % LANES == 0))
    with when((start < even) | (whole < end)):
        for part in loop(0, 2):  # what is before and behind the vectors
            for i in loop(choose(part == 0, start, whole), choose(part == 0, even, end)):
                bits = Variable(bits_of(_f32(table[np.int64(codes[i]) & mask] * scale)))
                with when(signs_at != 0):
                    negative = _i32((np.int64(signs[i // 8]) >> (i % 8)) & 1)
                    bits.now = _i32(bits.now ^ _i32(negative << 31))
                out[i] = float_of(bits.now)
