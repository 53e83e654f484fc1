"""Loops from codes to values, compiled by numba: of an LNS without a table, of others by one."""

from typing import Any

import numba
import numpy as np

from rung.kernels.cpu import simd
from rung.kernels.cpu.float32_math import bits_of, float_of
from rung.kernels.cpu.jit import jit
from rung.kernels.cpu.rung_lanes import ONE, SIGN, gather
from rung.kernels.cpu.simd import LANES, load, look_up, pointer, select, splat, store, stream

_f32, _i32 = np.float32, np.int32
_BITS, _SHIFT, _LAST, _FIRST, _MANTISSAS = 0, 1, 2, 4, 9  # places in the plan of `cpu.lns`


@jit
def _group(i: Any, layout: Any) -> Any:
    """Index of the scale of element i, and the end of its group."""
    _, length, block, rows, _ = layout
    row = i // length
    column = (i - row * length) // block
    end = min(row * length + (column + 1) * block, (row + 1) * length)
    return (row % rows) * ((length + block - 1) // block) + column, end


@jit
def _put(out: Any, i: Any, value: Any, streamed: Any) -> None:
    if streamed:
        stream(out, i, value)
    else:
        store(out, i, value)


@jit
def _lns_span(
    codes: Any, start: Any, end: Any, scale: Any, out: Any, streamed: Any, plan: Any, drop: Any
) -> None:
    """Values of codes[start:end], a multiple of sixteen."""
    bits, shift, last = plan[_BITS] + drop, _i32(plan[_SHIFT]), _i32(plan[_LAST])
    gamma = (1 << shift) - 1
    mantissas = numba.carray(pointer(plan[_MANTISSAS], _i32(0)), 2 * LANES)
    spread = np.empty(LANES, np.int32)
    for lane in range(LANES):  # steps above e = last, which begins an octave
        spread[lane] = mantissas[1 + (lane & gamma)] + ONE
    table, factor = load(spread, 0), splat(_f32(scale))
    first, mask = splat(_i32(plan[_FIRST])), splat(_i32((1 << (bits - 1)) - 1))
    left, octave = splat(_i32(32 - bits)), splat(_i32(23))
    top, rungs, sign = splat(last), splat(shift), splat(SIGN)
    half, low, one = splat(_i32((1 << drop >> 1) - 1)), splat(_i32(drop)), splat(_i32(1))
    zero = splat(_i32(0))
    for i in range(start, end, LANES):
        code = load(codes, i)
        e = code & mask
        if drop:
            e = (e + half + ((e >> low) & one)) >> low
            e = select(e < top, e, top)
        steps = e - top
        power = ((steps >> rungs) << octave) + look_up(table, steps)
        power = select(e >= first, power, zero)
        value = simd.bits_of(simd.float_of(power) * factor)
        _put(out, i, simd.float_of(value | ((code << left) & sign)), streamed)


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
    codes = numba.carray(pointer(addresses[0], kind), layout[0])
    scales = numba.carray(pointer(addresses[1], _f32(0.0)), layout[0])
    out = numba.carray(pointer(addresses[2], _f32(0.0)), layout[0])
    given, result = np.zeros(LANES, codes.dtype), np.empty(LANES, np.float32)
    i = places[0]
    while i < places[1]:
        place, end = _group(i, layout)
        end = min(end, places[1])
        whole = i + ((end - i) & -LANES)
        if i < whole:
            _lns_span(codes, i, whole, scales[place], out, layout[4] != 0, plan, drop)
        if whole < end:
            for lane in range(end - whole):
                given[lane] = codes[whole + lane]
            _lns_span(given, 0, LANES, scales[place], result, False, plan, drop)
            for lane in range(end - whole):
                out[whole + lane] = result[lane]
        i = end


@jit
def take(addresses: Any, places: Any, layout: Any, kind: Any, table: Any, _drop: Any) -> None:
    """table[code] * scale for every code; arguments of `lns`, and values at scale 1."""
    codes = numba.carray(pointer(addresses[0], kind), layout[0])
    scales = numba.carray(pointer(addresses[1], _f32(0.0)), layout[0])
    out = numba.carray(pointer(addresses[2], _f32(0.0)), layout[0])
    mask, i = table.size - 1, places[0]
    while i < places[1]:
        place, end = _group(i, layout)
        end = min(end, places[1])
        scale, whole = scales[place], i + ((end - i) & -LANES)
        lanes, factor = splat(_i32(mask)), splat(scale)
        for at in range(i, whole, LANES):
            value = gather(table, load(codes, at) & lanes) * factor
            _put(out, at, value, layout[4] != 0)
        for at in range(whole, end):
            out[at] = table[np.int64(codes[at]) & mask] * scale
        i = end


@jit
def ladder(addresses: Any, places: Any, layout: Any, kind: Any, table: Any, signs_at: Any) -> None:
    """`take` of magnitudes with signs from packed bits (at an address; 0: none, all positive)."""
    codes = numba.carray(pointer(addresses[0], kind), layout[0])
    scales = numba.carray(pointer(addresses[1], _f32(0.0)), layout[0])
    out = numba.carray(pointer(addresses[2], _f32(0.0)), layout[0])
    signs = numba.carray(pointer(signs_at, np.uint8(0)), (layout[0] + 7) // 8)
    mask, i = table.size - 1, places[0]
    negative, none = splat(SIGN), splat(_i32(0))
    lanes = splat(_i32(mask))
    while i < places[1]:
        place, end = _group(i, layout)
        end = min(end, places[1])
        scale = scales[place]
        factor = splat(scale)
        at = i
        while at < end:
            if at + LANES <= end and at % 8 == 0:
                value = simd.bits_of(gather(table, load(codes, at) & lanes) * factor)
                if signs_at:
                    word = np.uint16(np.uint16(signs[at // 8]) | np.uint16(signs[at // 8 + 1]) << 8)
                    value = value ^ select(simd.mask_of_bits(word), negative, none)
                _put(out, at, simd.float_of(value), layout[4] != 0 and at % LANES == 0)
                at += LANES
            else:
                bits = bits_of(_f32(table[np.int64(codes[at]) & mask] * scale))
                if signs_at and (signs[at // 8] >> (at % 8)) & 1:
                    bits = _i32(bits ^ SIGN)
                out[at] = float_of(bits)
                at += 1
        i = end
