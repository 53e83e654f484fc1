"""MX in integers on NumPy arrays, for millions of blocks; held against `mx_scalar` itself.

A float32 is M * 2^E with 2^23 <= M < 2^24 (or 0). Codes of magnitudes count numbers upwards from
0, so that k steps of octave o (o = 0 the lowest) are code o * 2^m + k, and a carry into the next
octave needs no care.
"""

import numpy as np

# Mantissa bits, exponent of the smallest normal number, exponent of the largest number, its code,
# bits. INT8 is one octave of 128 steps.
ELEMENTS = {
    "fp8_e4m3": (3, -6, 8, 126, 8),
    "fp8_e5m2": (2, -14, 15, 123, 8),
    "fp6_e3m2": (2, -2, 4, 31, 6),
    "fp6_e2m3": (3, 0, 2, 31, 6),
    "fp4_e2m1": (1, 0, 2, 7, 4),
    "int8": (7, 1, 0, 127, 8),
}
# Significands (24 bits) of the largest numbers: 448, 57344, 28, 7.5, 6, 127/64.
SIGNIFICAND = {
    "fp8_e4m3": 7 << 21,
    "fp8_e5m2": 7 << 21,
    "fp6_e3m2": 7 << 21,
    "fp6_e2m3": 15 << 20,
    "fp4_e2m1": 3 << 22,
    "int8": 127 << 17,
}


def split(x):
    """Integers (M, E) of |x|, x float32; M = 0 for 0."""
    bits = x.view(np.int32) & 0x7FFFFFFF
    field, m = bits >> 23, bits & 0x7FFFFF
    m, e = np.where(field > 0, m | 1 << 23, m), np.maximum(field, 1) - 150
    while True:
        low = (m > 0) & (m < 1 << 23)
        if not low.any():
            return m, e
        m, e = np.where(low, m << 1, m), np.where(low, e - 1, e)


def scale_codes(name, m, e, rule):
    """Codes of blocks whose largest magnitudes are M * 2^E."""
    mantissa = 6 if name == "int8" else ELEMENTS[name][0]
    s = e + 23 - ELEMENTS[name][2]
    if rule == "ceil":
        s = s + (m > 1 << 23)
    elif rule == "rceil":
        s = s + (m > SIGNIFICAND[name])
    elif rule == "even":
        s = s + (m + (1 << (22 - mantissa)) >= 1 << 24)
    return np.where(m == 0, 0, np.clip(s, -127, 127) + 127)


def encode(name, x, rule):
    """Scale codes (n,) and codes (n, block) of float32 blocks (n, block), as int32."""
    mantissa, lowest, _, largest, bits = ELEMENTS[name]
    finite = np.isfinite(x).all(1)
    m, e = split(np.where(finite[:, None], x, np.float32(0)))
    sizes = np.abs(np.where(finite[:, None], x, np.float32(0)))
    top = np.arange(len(x)), sizes.argmax(1)
    codes = np.where(finite, scale_codes(name, m[top], e[top], rule), 255)
    s = np.where(finite, codes, 127)[:, None] - 127
    octave = np.where(m == 0, lowest, np.maximum(e + 23 - s, lowest))  # of x / 2^s
    shift = np.clip(octave - mantissa + s - e, 0, 26)  # from 26 on all is under half a step
    k, rest, half = m >> shift, m & ((1 << shift) - 1), (1 << shift) >> 1
    k = k + ((rest > half) | ((rest == half) & (shift > 0) & (k & 1 == 1)))
    size = np.minimum(((octave - lowest) << mantissa) + k, largest)
    negative = np.signbit(x) & finite[:, None]
    if name == "int8":
        return codes, np.where(negative, -size, size) & 0xFF
    return codes, size | negative.astype(np.int32) << (bits - 1)


def decode(name, codes, elements):
    """float32 values of blocks, finite where the code is finite."""
    mantissa, lowest, _, _, bits = ELEMENTS[name]
    negative = elements >> (bits - 1) == 1
    if name == "int8":
        size = np.where(negative, 256 - elements, elements)
        field, steps = np.zeros_like(size), size
    else:
        size = elements & ((1 << (bits - 1)) - 1)
        field = size >> mantissa
        steps = (size & ((1 << mantissa) - 1)) + (np.minimum(field, 1) << mantissa)
    exponents = np.maximum(field - 1, 0) + lowest - mantissa + codes[:, None] - 127
    values = np.minimum(np.ldexp(steps.astype(np.float64), exponents), np.finfo(np.float32).max)
    values = np.where(negative, -values, values).astype(np.float32)
    values[codes == 255] = np.nan
    return values
