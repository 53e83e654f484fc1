"""The loops of `cpu.mx`, compiled by numba. Importing this imports numba.

One pass over a block finds its largest magnitude, a second rounds. Rounding to a step 2^k is the
addition and subtraction of 2^(k + 23), whose float32 neighbours lie 2^k apart: float32's own
rounding to nearest even does the work. No branch in the loops over elements, so that LLVM turns
them into vector instructions.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.float32_math import bits_of, float_of
from rung.kernels.cpu.jit import jit

_MAGNITUDE, _SIGN = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
_EXPONENT, _FRACTION, _HIDDEN = np.int32(0x7F800000), np.int32(0x7FFFFF), np.int32(0x800000)
_EXPONENT_AT = np.int32(23)
_TO_MAGIC, _INVERSE = np.int32(23 << 23), np.int32(254 << 23)
_NAN, _MOST = np.float32(np.nan), np.float32(np.finfo(np.float32).max)
_u64 = np.uint64


@jit
def _power(code: Any) -> Any:
    """2^(code - 127) for 0 <= code <= 254; 2^-127 is a subnormal number."""
    return float_of(np.int32(code << 23) if code else np.int32(1 << 22))


@jit
def _scale_code(bits: Any, emax: Any, threshold: Any) -> Any:
    """E8M0 code of a largest magnitude that is positive and finite.

    Its exponent goes up by one where the 24 bits of its significand reach the threshold.
    """
    exponent, significand = np.int64(bits >> 23), np.int64(bits & _FRACTION)
    if exponent:
        significand |= np.int64(_HIDDEN)
    else:
        exponent = np.int64(1)
        while significand < _HIDDEN:
            significand, exponent = significand << 1, exponent - 1
    return min(max(exponent - emax + (significand >= threshold), 0), 254)


@jit
def _nearest(size: Any, lowest: Any, mantissa: Any, largest: Any) -> Any:
    """A magnitude on the grid; `lowest`, `mantissa` lie in the place of a float32's exponent."""
    magic = float_of(max(bits_of(size) & _EXPONENT, lowest) + (_TO_MAGIC - mantissa))
    return min((size + magic) - magic, largest)


@jit
def _either(size: Any, draw: Any, lowest: Any, mantissa: Any, largest: Any) -> Any:
    """One of the two neighbours of a magnitude, by a uniform number."""
    exponent = max(bits_of(size) & _EXPONENT, lowest) - mantissa
    position = size * float_of(_INVERSE - exponent)
    below = np.float32(np.int32(position))
    up = np.float32(1.0) if draw < position - below else np.float32(0.0)
    return min((below + up) * float_of(exponent), largest)


@jit
def _signed(size: Any, value: Any, zero: Any) -> Any:
    """A magnitude with the sign of a value."""
    return float_of(bits_of(size) | (bits_of(value) & _SIGN)) + zero


@jit
def _magnitude(value: Any) -> Any:
    return float_of(bits_of(value) & _MAGNITUDE)


@jit
def _bounded(value: Any, most: Any) -> Any:
    return max(min(value, most), -most)


@jit
def _largest_bits(x: Any, start: Any, end: Any) -> Any:
    """Bits of the largest magnitude; NaN is larger than infinity, and that than any number."""
    most = np.int32(0)
    for i in range(start, end):
        most = max(most, bits_of(x[i]) & _MAGNITUDE)
    return most


# Indices are unsigned: a signed one may count from the end, which no vector instruction does.


@jit
def quantize(
    x: Any, draws: Any, length: Any, block: Any, emax: Any, threshold: Any, lowest: Any,
    mantissa: Any, largest: Any, zero: Any, most: Any, out: Any,
) -> Any:  # fmt: skip
    """Values of every block; how many blocks are not finite (they become NaN).

    `x` is flat, in rows of `length` elements; `draws` is empty for rounding to nearest. `lowest` is
    the exponent of the smallest normal number and `mantissa` the number of mantissa bits, both in
    the place of a float32's exponent. `zero` is what to add to a rounded number: -0 changes
    nothing, +0 takes the sign off zeros. No value gets beyond `most`.
    """
    bad, start, row_end = 0, _u64(0), length
    while start < _u64(x.size):
        end = min(start + block, row_end)
        bits = _largest_bits(x, start, end)
        if bits >= _EXPONENT:
            bad += 1
            for i in range(start, end):
                out[i] = _NAN
        else:
            code = _scale_code(bits, emax, threshold) if bits else np.int64(0)
            inverse, scale = _power(254 - code), _power(code)
            if draws.size:
                for i in range(start, end):
                    value = x[i] * inverse
                    size = _either(_magnitude(value), draws[i], lowest, mantissa, largest)
                    out[i] = _bounded(_signed(size, value, zero) * scale, most)
            else:
                for i in range(start, end):
                    value = x[i] * inverse
                    size = _nearest(_magnitude(value), lowest, mantissa, largest)
                    out[i] = _bounded(_signed(size, value, zero) * scale, most)
        start = end
        if end == row_end:
            row_end += length
    return bad


@jit
def _code(size: Any, value: Any, lowest: Any, mantissa: Any, bits: Any, fixed: Any) -> Any:
    """Code of a magnitude on the grid with the sign of a value."""
    counted = np.int32(size * float_of(_INVERSE - lowest + mantissa))
    shift = _EXPONENT_AT - (mantissa >> _EXPONENT_AT)
    upper = (bits_of(size) >> shift) - ((lowest - _HIDDEN) >> shift)
    code = counted if size < float_of(lowest) else upper
    sign = bits_of(value) >> np.int32(31)  # -1 or 0
    if fixed:
        return ((code ^ sign) - sign) & ((np.int32(1) << bits) - np.int32(1))
    return code | (sign & (np.int32(1) << (bits - np.int32(1))))


@jit
def encode(
    x: Any, draws: Any, length: Any, block: Any, emax: Any, threshold: Any, lowest: Any,
    mantissa: Any, largest: Any, bits_of_code: Any, fixed: Any, out: Any, scales: Any,
) -> Any:  # fmt: skip
    """Codes of every element and block; how many blocks are not finite (scale code 255)."""
    bad, start, row_end, at = 0, _u64(0), length, _u64(0)
    while start < _u64(x.size):
        end = min(start + block, row_end)
        bits = _largest_bits(x, start, end)
        if bits >= _EXPONENT:
            bad += 1
            scales[at] = 255
            for i in range(start, end):
                out[i] = 0
        else:
            code = _scale_code(bits, emax, threshold) if bits else np.int64(0)
            inverse = _power(254 - code)
            scales[at] = code
            if draws.size:
                for i in range(start, end):
                    value = x[i] * inverse
                    size = _either(_magnitude(value), draws[i], lowest, mantissa, largest)
                    out[i] = _code(size, value, lowest, mantissa, bits_of_code, fixed)
            else:
                for i in range(start, end):
                    value = x[i] * inverse
                    size = _nearest(_magnitude(value), lowest, mantissa, largest)
                    out[i] = _code(size, value, lowest, mantissa, bits_of_code, fixed)
        start, at = end, at + _u64(1)
        if end == row_end:
            row_end += length
    return bad


@jit
def decode(codes: Any, scales: Any, table: Any, length: Any, block: Any, out: Any) -> None:
    """Values of codes, finite where the code is; NaN in blocks of scale code 255."""
    start, row_end, at = _u64(0), length, _u64(0)
    while start < _u64(codes.size):
        end, code = min(start + block, row_end), np.int64(scales[at])
        scale = _NAN if code == 255 else _power(code)
        for i in range(start, end):
            value = table[codes[i]]
            scaled = value * scale
            bounded = _bounded(scaled, _MOST)
            out[i] = bounded if abs(scaled) <= _MOST or abs(value) <= _MOST else scaled
        start, at = end, at + _u64(1)
        if end == row_end:
            row_end += length


@jit
def cast(
    x: Any, scales: Any, draws: Any, lowest: Any, mantissa: Any, largest: Any, zero: Any,
    back: Any, most: Any, out: Any,
) -> None:  # fmt: skip
    """Values over the scale of their row, on the grid; saturating.

    With `back` the scale is put back, no value gets beyond `most`, and a row of scale NaN is NaN.
    """
    length, bound = _u64(x.size // max(scales.size, 1)), np.float32(2.0) * largest
    for row in range(_u64(scales.size)):
        start, scale, valid = row * length, scales[row], scales[row] > 0
        if not valid:
            scale = np.float32(1.0)
        factor = scale if back else np.float32(1.0)
        # Beyond the bound nothing changes, and magic numbers would overflow.
        if draws.size:
            for i in range(start, start + length):
                value = x[i] / scale
                size = min(_magnitude(value), bound)
                size = _either(size, draws[i], lowest, mantissa, largest)
                out[i] = _bounded(_signed(size, value, zero) * factor, most)
        else:
            for i in range(start, start + length):
                value = x[i] / scale
                size = _nearest(min(_magnitude(value), bound), lowest, mantissa, largest)
                out[i] = _bounded(_signed(size, value, zero) * factor, most)
        if back and not valid:
            for i in range(start, start + length):
                out[i] = _NAN
