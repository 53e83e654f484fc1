"""The loops of `cpu.lns`, compiled by numba. Importing this imports numba.

float32 values are handled as int32 bit patterns, which order as the values do for positive ones.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.jit import jit
from rung.kernels.log_boundary import LIMB, STEPS

_MAGNITUDE, _SIGN = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
_INFINITE = np.int32(0x7F800000)
_NEVER = np.int32(0x7FFFFFFF)
_HIDDEN = 1 << 23
_STEPS, _LIMB = STEPS, LIMB


@jit
def largest(rows: Any, out: Any) -> None:
    """Bits of the largest |x| of each row."""
    for row in range(rows.shape[0]):
        most = np.uint32(0)
        for i in range(rows.shape[1]):
            most = max(most, np.uint32(rows[row, i] & _MAGNITUDE))
        out[row] = np.int32(most)


@jit
def take(codes: Any, table: Any, out: Any) -> None:
    """Copy table[code] for every code; int16 codes index by their 16 bits."""
    mask = table.size - 1
    for i in range(codes.size):
        out[i] = table[np.int64(codes[i]) & mask]


@jit
def _split(bits: Any) -> Any:
    """(m, biased exponent of m * 2^(e - 150)) of positive bits, with 2^23 <= m < 2^24."""
    m, e = np.int64(bits & 0x7FFFFF), np.int64(bits >> 23)
    if e:
        return m | _HIDDEN, e
    e = np.int64(1)
    while m < _HIDDEN:
        m, e = m << 1, e - 1
    return m, e


@jit
def _product(m: Any, step: Any, high: Any, low: Any) -> Any:
    """floor(m * 2^(step / 4096)), in [2^23, 2^25)."""
    return (m * high[step] + ((m * low[step]) >> _LIMB)) >> _LIMB


@jit
def _at_least(bits: Any, scale_m: Any, scale_e: Any, steps: Any, high: Any, low: Any) -> Any:
    """`log_boundary.at_least` for one positive value."""
    m, e = _split(bits)
    step = steps & (_STEPS - 1)
    shift = e - scale_e - (steps >> 12)
    if shift < 0:
        return False
    if shift > 1:
        return True
    return (m << shift) > _product(scale_m, step, high, low) - (step == 0)


@jit
def _boundary_bits(scale_m: Any, scale_e: Any, steps: Any, high: Any, low: Any) -> Any:
    """Bits of the smallest float32 that is at least scale * 2^(steps / 4096)."""
    step, e = steps & (_STEPS - 1), scale_e + (steps >> 12)
    floor = _product(scale_m, step, high, low)
    if floor >= 2 * _HIDDEN:
        return np.int32((e << 23) + (floor >> 1) + 1)  # e + 1 octaves, less the hidden bit
    return np.int32(((e - 1) << 23) + floor + (step != 0))


@jit
def _fill_table(
    scale_m: Any, scale_e: Any, gamma: Any, last: Any, lowest: Any, half: Any, high: Any, low: Any,
    shift: Any, results: Any, boundaries: Any, under: Any, gain: Any,
) -> Any:  # fmt: skip
    """Per bin: boundary, result under it, what it gains from there on. The number of the first bin.

    `half` is 1 for boundaries half way between rungs and 0 for the rungs themselves.
    """
    unit = _STEPS // 2 // gamma
    e = lowest
    boundary = _boundary_bits(scale_m, scale_e, (2 * (e + 1 - last) - half) * unit, high, low)
    first = (boundary >> shift) - 1
    for place in range(boundaries.size):
        end = np.int64(first + place + 1) << shift
        boundaries[place], under[place], gain[place] = _NEVER, results[e], 0
        if e < last and boundary < end:
            e += 1
            boundaries[place], gain[place] = boundary, results[e] - results[e - 1]
            boundary = _boundary_bits(
                scale_m, scale_e, (2 * (e + 1 - last) - half) * unit, high, low
            )
    return np.int32(first)


@jit
def _direct(
    bits: Any, scale_m: Any, scale_e: Any, gamma: Any, last: Any, lowest: Any, half: Any,
    high: Any, low: Any,
) -> Any:  # fmt: skip
    """Exponent code of one positive value, from a logarithm and one exact comparison."""
    m, e = _split(bits)
    unit = _STEPS // 2 // gamma
    position = gamma * (np.log2(m / scale_m) + (e - scale_e))
    if half:
        k = np.int64(np.floor(position))
        k += _at_least(bits, scale_m, scale_e, (2 * k + 1) * unit, high, low)
    else:
        k = np.int64(np.round(position))
        k -= not _at_least(bits, scale_m, scale_e, 2 * k * unit, high, low)
    return min(max(k + last, lowest), last)


@jit
def _result(e: Any, scale: Any, powers: Any, code_bits: Any, value: Any) -> Any:
    """Bits of the value of e; or e itself where codes are wanted. `value` is scratch."""
    if code_bits:
        return np.int32(e)
    value[0] = powers[e] * scale
    return value.view(np.int32)[0]


@jit
def _table_bits(gamma: Any) -> Any:
    """Low bits of a float32 that do not name its bin: 2 gamma bins in an octave."""
    shift = 22
    while gamma > 1:
        gamma, shift = gamma >> 1, shift - 1
    return np.int32(shift)


@jit
def _look_up(
    row: Any, boundaries: Any, under: Any, gain: Any, first: Any, shift: Any, sign: Any,
    right: Any, out: Any,
) -> None:  # fmt: skip
    # Clamping values rather than places keeps the loop in 32 bits.
    bottom = np.int32(first << shift)
    top = np.int32(min(np.int64(first + boundaries.size - 1) << shift, np.int64(_INFINITE)))
    for i in range(row.size):
        bits = row[i]
        size = min(max(bits & _MAGNITUDE, bottom), top)
        place = np.uint32((size >> shift) - first)
        # A mask rather than a choice: no branch that data would mispredict.
        is_under = np.int32((size - boundaries[place]) >> 31)
        out[i] = (under[place] + (gain[place] & ~is_under)) | ((bits >> right) & sign)


@jit
def _direct_row(
    row: Any, scale_m: Any, scale_e: Any, gamma: Any, last: Any, lowest: Any, half: Any,
    high: Any, low: Any, out: Any,
) -> None:  # fmt: skip
    for i in range(row.size):
        size = row[i] & _MAGNITUDE
        out[i] = lowest
        if size:
            out[i] = _direct(size, scale_m, scale_e, gamma, last, lowest, half, high, low)


@jit
def _move_up(row: Any, draws: Any, scale: Any, wide: Any, last: Any, out: Any) -> None:
    """Stochastic rounding: from the rung below to the one above with the odds of the mean."""
    sizes = row & _MAGNITUDE
    values = sizes.view(np.float32)
    for i in range(row.size):
        e = out[i]
        if e < last:
            under, over = wide[e] * scale, wide[e + 1] * scale
            out[i] = e + (np.float64(draws[i]) < (np.float64(values[i]) - under) / (over - under))


@jit
def _finish_row(
    row: Any, scale: Any, powers: Any, zero: Any, code_bits: Any, sign: Any, right: Any, out: Any
) -> None:
    """From e to what is wanted, with the sign; a zero is zero where there is a code for it."""
    value = np.empty(1, np.float32)
    for i in range(row.size):
        e = 0 if zero and row[i] & _MAGNITUDE == 0 else out[i]
        out[i] = _result(e, scale, powers, code_bits, value) | ((row[i] >> right) & sign)


@jit
def round_rows(
    rows: Any, scales: Any, powers: Any, gamma: Any, last: Any, zero: Any, flush: Any,
    code_bits: Any, high: Any, low: Any, draws: Any, wide: Any, out: Any,
) -> None:  # fmt: skip
    """Round every row to the rungs of its scale.

    `code_bits` is 0 for values and B for stored codes. `draws` has no columns for rounding to
    nearest. `powers` and `wide` are 2^((e - last) / gamma) in float32 and in float64.
    """
    half = int(draws.shape[1] == 0)
    lowest, shift, bins = (0 if flush else zero), _table_bits(gamma), 2 * (last + gamma) + 4
    boundaries, under = np.empty(bins, np.int32), np.empty(bins, np.int32)
    gain, value = np.empty(bins, np.int32), np.empty(1, np.float32)
    results = np.arange(last + 1).astype(np.int32)
    sign, right = _SIGN, np.int32(0)
    if code_bits:
        sign, right = np.int32(1 << (code_bits - 1)), np.int32(32 - code_bits)
    for row in range(rows.shape[0]):
        given, result, bits = rows[row], out[row], scales[row]
        value.view(np.int32)[0] = bits
        scale = value[0]
        result[:] = 0
        if 0 < bits < _INFINITE:
            scale_m, scale_e = _split(bits)
            # A table pays for long rows; the bins of subnormal numbers would be too wide.
            tabled = 2 * rows.shape[1] > last and scale_e > last // gamma + 3
            if tabled:
                if half:
                    for e in range(last + 1):
                        results[e] = _result(e, scale, powers, code_bits, value)
                first = _fill_table(
                    scale_m, scale_e, gamma, last, lowest, half, high, low,
                    shift, results, boundaries, under, gain,
                )  # fmt: skip
                own = sign if half else np.int32(0)
                _look_up(given, boundaries, under, gain, first, shift, own, right, result)
                if half:
                    if lowest:
                        _keep_zeros(given, sign, right, result)
                    continue
            else:
                _direct_row(given, scale_m, scale_e, gamma, last, lowest, half, high, low, result)
            if not half:
                _move_up(given, draws[row], np.float64(scale), wide, last, result)
        _finish_row(given, scale, powers, zero, code_bits, sign, right, result)


@jit
def _keep_zeros(row: Any, sign: Any, right: Any, out: Any) -> None:
    """Undo saturation to the smallest code where a value is exactly 0."""
    for i in range(row.size):
        if row[i] & _MAGNITUDE == 0:
            out[i] = (row[i] >> right) & sign
