"""The loops of `cpu.mx`, compiled by numba. Importing this imports numba.

One pass over a block finds its largest magnitude, a second rounds, sixteen numbers at a time.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu import simd
from rung.kernels.cpu.arrays import array_at
from rung.kernels.cpu.draw_loops import drawn, draws_at
from rung.kernels.cpu.float32_math import float_of
from rung.kernels.cpu.jit import inlined, inner, jit, lane
from rung.kernels.cpu.memory_lanes import load, prefetch, store, stream
from rung.kernels.cpu.mx_lanes import (
    bounded,
    codes_of,
    grid_vectors,
    power_of,
    rounded,
    signed,
    smaller,
)
from rung.kernels.cpu.round_loops import AHEAD
from rung.kernels.cpu.rung_lanes import (
    FRACTION,
    INFINITE,
    MAGNITUDE,
    QUIET_NAN,
    SIGN,
    gather,
    largest_bits,
)
from rung.kernels.cpu.simd import LANES, select, splat

_HIDDEN = np.int64(1 << 23)
_MOST = np.float32(np.finfo(np.float32).max)
_f32, _i32 = np.float32, np.int32


@inlined
def _scale_code(bits: Any, emax: Any, threshold: Any) -> Any:
    """E8M0 code of a finite largest magnitude.

    Its exponent goes up by one where the 24 bits of its significand reach the threshold.
    """
    if bits == 0:
        return np.int64(0)
    exponent, significand = np.int64(bits >> 23), np.int64(bits & FRACTION)
    if exponent:
        significand |= _HIDDEN
    else:
        exponent = np.int64(1)
        while significand < _HIDDEN:
            significand, exponent = significand << 1, exponent - 1
    return min(max(exponent - emax + (significand >= threshold), 0), 254)


@inlined
def _span(
    x: Any, draws: Any, start: Any, end: Any, out: Any, inverse: Any, scale: Any, grid: Any,
    most: Any, streamed: Any, coded: Any,
) -> None:  # fmt: skip
    """Bits of values (or codes) of x[start:end], a multiple of sixteen, in a block."""
    by, factor, at = splat(inverse), splat(scale), x.ctypes.data + AHEAD
    for i in range(start, end, LANES):
        prefetch(at + 4 * i)
        size, sign = rounded(load(x, i) * by, draws_at(draws, i), grid)
        if coded is None:
            result = simd.bits_of(bounded(signed(size, sign, grid) * factor, most))
        else:
            result = codes_of(size, sign, grid)
        if streamed:
            stream(out, i, result)
        else:
            store(out, i, result)


@inner
def _tail(
    x: Any, draws: Any, start: Any, end: Any, out: Any, inverse: Any, scale: Any, numbers: Any,
    most: Any, coded: Any, kind: Any, memory: Any,
) -> None:  # fmt: skip
    """`_span` for fewer than sixteen numbers, in 192 bytes at `memory`."""
    given = array_at(memory, _f32(0.0), LANES)
    words = array_at(memory + 64, _i32(0), LANES)
    result = array_at(memory + 128, kind, LANES)
    grid, bound = grid_vectors(numbers), splat(_f32(most))
    for place in range(end - start):
        given[place] = x[start + place]
    if draws is None:
        _span(given, None, 0, LANES, result, inverse, scale, grid, bound, False, coded)
    else:
        for place in range(end - start):
            words[place] = draws[start + place]
        _span(given, words, 0, LANES, result, inverse, scale, grid, bound, False, coded)
    for place in range(end - start):
        out[start + place] = result[place]


@jit
def round_blocks(
    addresses: Any, first: Any, end: Any, layout: Any, rule: Any, numbers: Any, most: Any,
    draws: Any, kind: Any, coded: Any,
) -> None:  # fmt: skip
    """Values or codes, and scale codes, of blocks first ... end - 1.

    Args:
        addresses: Of contiguous float32 values, of scale codes, of results, of words.
        first: Block to begin with, counted through all rows.
        end: Block to end before.
        layout: size, length of a row, block, whether to write past the caches.
        rule: Exponent of the element's largest number; significands of 24 bits from here go up.
        numbers: Of the grid, see `cpu.mx`.
        most: Largest magnitude of a value.
        draws: A zero of int32, a word of which there is for an element; None: to nearest.
        kind: A zero of the results' dtype; int32 for the bits of values.
        coded: None for values, else anything.
    """
    size, length, block, streamed = layout
    x = array_at(addresses[0], _f32(0.0), size)
    bits = array_at(addresses[0], _i32(0), size)
    scales = array_at(addresses[1], np.uint8(0), size)
    out = array_at(addresses[2], kind, size)
    words = drawn(addresses[3], draws, size)
    memory = np.zeros(3 * LANES, np.int32)
    grid, bound = grid_vectors(numbers), splat(_f32(most))
    blocks = (length + block - 1) // block
    row = first // blocks
    column = first - row * blocks
    for at in range(first, end):
        start = row * length + column * block
        stop = min(start + block, (row + 1) * length)
        largest = largest_bits(bits, start, stop)
        if largest < INFINITE:
            code = _scale_code(largest, rule[0], rule[1])
            scales[at] = code
            inverse, scale = power_of(254 - code), power_of(code)
            whole = start + ((stop - start) & -LANES)
            _span(x, words, start, whole, out, inverse, scale, grid, bound, streamed != 0, coded)
            if whole < stop:
                _tail(
                    x, words, whole, stop, out, inverse, scale, numbers, most, coded, kind,
                    memory.ctypes.data,
                )  # fmt: skip
        else:
            scales[at] = 255
            for i in range(start, stop):
                out[i] = 0 if coded is not None else QUIET_NAN
        column += 1
        if column == blocks:
            row, column = row + 1, 0
    memory[0] = 0


@jit
def decode(addresses: Any, first: Any, end: Any, layout: Any, table: Any) -> None:
    """Values of codes in blocks first ... end - 1; NaN in blocks of scale code 255.

    `addresses` are those of codes, scale codes and results; `table` has the values of all bytes.
    """
    size, length, block, streamed = layout
    codes = array_at(addresses[0], np.uint8(0), size)
    scales = array_at(addresses[1], np.uint8(0), size)
    out = array_at(addresses[2], _f32(0.0), size)
    blocks, most = (length + block - 1) // block, splat(_MOST)
    row = first // blocks
    column = first - row * blocks
    scratch, result = np.zeros(LANES, np.uint8), np.empty(LANES, np.float32)
    for at in range(first, end):
        start = row * length + column * block
        stop = min(start + block, (row + 1) * length)
        code = np.int64(scales[at])
        factor = splat(float_of(QUIET_NAN) if code == 255 else power_of(code))
        whole = start + ((stop - start) & -LANES)
        for i in range(start, whole, LANES):
            value = _finite_stays(gather(table, load(codes, i)), factor, most)
            if streamed:
                stream(out, i, value)
            else:
                store(out, i, value)
        if whole < stop:
            for i in range(whole, stop):
                scratch[i - whole] = codes[i]
            store(result, 0, _finite_stays(gather(table, load(scratch, 0)), factor, most))
            for i in range(whole, stop):
                out[i] = result[i - whole]
        column += 1
        if column == blocks:
            row, column = row + 1, 0


@lane
def _finite_stays(value: Any, factor: Any, most: Any) -> Any:
    """Products of which those of finite values stay finite."""
    scaled = value * factor
    finite = (simd.bits_of(value) & splat(MAGNITUDE)) < splat(INFINITE)
    return select(finite, bounded(scaled, most), scaled)


@lane
def _cast(value: Any, words: Any, scale: Any, factor: Any, grid: Any, most: Any) -> Any:
    """Sixteen numbers over a scale, rounded, times a factor."""
    value = value / scale
    # Beyond the bound nothing changes, and magic numbers would overflow.
    bound = grid[2] + grid[2]
    size = simd.bits_of(smaller(simd.float_of(simd.bits_of(value) & splat(MAGNITUDE)), bound))
    size, sign = rounded(simd.float_of(size | (simd.bits_of(value) & splat(SIGN))), words, grid)
    return bounded(signed(size, sign, grid) * factor, most)


@inlined
def _cast_tail(
    x: Any, draws: Any, start: Any, end: Any, out: Any, scale: Any, factor: Any, grid: Any,
    most: Any, memory: Any,
) -> None:  # fmt: skip
    """`_cast` of fewer than sixteen numbers, in 192 bytes at `memory`."""
    given = array_at(memory, _f32(0.0), LANES)
    words = array_at(memory + 64, _i32(0), LANES)
    result = array_at(memory + 128, _f32(0.0), LANES)
    for place in range(end - start):
        given[place] = x[start + place]
    if draws is None:
        store(result, 0, _cast(load(given, 0), None, scale, factor, grid, most))
    else:
        for place in range(end - start):
            words[place] = draws[start + place]
        store(result, 0, _cast(load(given, 0), load(words, 0), scale, factor, grid, most))
    for place in range(end - start):
        out[start + place] = result[place]


@jit
def cast(
    addresses: Any, rows: Any, places: Any, layout: Any, numbers: Any, most: Any, draws: Any,
    back: Any,
) -> None:  # fmt: skip
    """Values over the scale of their row, on the grid; saturating.

    Args:
        addresses: Of contiguous float32 values, of scales, of results, of words.
        rows: First and end row.
        places: Elements outside [first, end) are left alone.
        layout: size, length of a row.
        numbers: Of the grid, see `cpu.mx`.
        most: Largest magnitude of a value.
        draws: A zero of int32, a word of which there is for an element; None: to nearest.
        back: Put the scale back; a row of scale NaN then is NaN.
    """
    size, length = layout
    x = array_at(addresses[0], _f32(0.0), size)
    scales = array_at(addresses[1], _f32(0.0), size)
    out = array_at(addresses[2], _f32(0.0), size)
    words = drawn(addresses[3], draws, size)
    memory = np.zeros(3 * LANES, np.int32)
    grid, bound, at = grid_vectors(numbers), splat(_f32(most)), addresses[0] + AHEAD
    for row in range(rows[0], rows[1]):
        start, stop = max(row * length, places[0]), min((row + 1) * length, places[1])
        good = scales[row] > 0
        scale = splat(scales[row] if good else _f32(1.0))
        factor = scale if back else splat(_f32(1.0))
        if back and not good:
            factor = splat(float_of(QUIET_NAN))
        whole = start + ((stop - start) & -LANES)
        for i in range(start, whole, LANES):
            prefetch(at + 4 * i)
            store(out, i, _cast(load(x, i), draws_at(words, i), scale, factor, grid, bound))
        if whole < stop:
            _cast_tail(x, words, whole, stop, out, scale, factor, grid, bound, memory.ctypes.data)
    memory[0] = 0
