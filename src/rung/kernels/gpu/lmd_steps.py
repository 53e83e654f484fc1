"""The kernels of `gpu.lmd`: a program has a chunk of a tensor and passes over it once.

A row of the table holds: first chunk, elements, addresses of weight, gradient, h+, h-, m+, m-, v+
and v-, the index of the first element, and the tensor's place in the numbers and the keys. NARROW
states are bfloat16; without NOISY, sigma is 0. The noise is drawn again instead of stored.
"""

import math

import triton.language as tl

from rung.kernels import lmd, philox
from rung.kernels.gpu.chunks import find
from rung.kernels.gpu.jit import Value, jit
from rung.kernels.gpu.lmd_values import (
    bounded,
    exp2,
    limit,
    normals,
    read,
    regularizer,
    words_of,
    write,
)

# The columns of a tensor's numbers, float32.
(
    RATE, BETA1, REST1, BETA2, REST2, SIGMA, FACTOR, SHIFT, DECAY, POINT, OCTAVES, FRACTION, CLIP,
    SHARE, LOW, HIGH,
) = (tl.constexpr(i) for i in range(16))  # fmt: skip
NUMBERS, COLUMNS = tl.constexpr(16), tl.constexpr(12)

_WEIGHT, _GRAD, _H_POS, _H_NEG, _M_POS, _M_NEG, _V_POS, _V_NEG, _START, _PLACE = (
    tl.constexpr(i) for i in range(2, 12)
)
_NORMAL = tl.constexpr(philox.PURPOSE_NORMAL)
_ROUND = tl.constexpr(philox.PURPOSE_ROUND)
_SMALLEST, _LARGEST = tl.constexpr(lmd.SMALLEST), tl.constexpr(lmd.LARGEST)
_LARGEST_MOVE = tl.constexpr(lmd.LARGEST_MOVE / math.log(2))
_PART = tl.constexpr(65536)


@jit
def _parts(
    at: Value, first: Value, own: Value, keys: Value, p: Value, n: Value, NOISY: tl.constexpr,
    ALIGNED: tl.constexpr, CHUNK: tl.constexpr,
) -> Value:  # fmt: skip
    """w+ and w- of medians."""
    if NOISY:
        name = keys + tl.load(at + _PLACE) * 3
        # A float32 holds no number of a sample, but both its halves.
        sample = tl.load(own + LOW).to(tl.int64) + tl.load(own + HIGH).to(tl.int64) * _PART
        element = tl.load(at + _START) + first
        word = words_of(
            tl.load(name), element, sample, tl.load(name + 1), _NORMAL, ALIGNED, CHUNK
        )  # fmt: skip
        x, y = normals(word)
        sigma = tl.load(own + SIGMA)
        p, n = p * exp2(x * sigma), n * exp2(y * sigma)
    return p, n


@jit
def draw(
    places: Value, owners: Value, numbers: Value, keys: Value, NARROW: tl.constexpr,
    NOISY: tl.constexpr, ALIGNED: tl.constexpr, EVEN: tl.constexpr, CHUNK: tl.constexpr,
) -> None:  # fmt: skip
    """A sample of the weights."""
    _, at, first, left = find(places, owners, COLUMNS, EVEN, CHUNK)
    i = tl.arange(0, CHUNK)
    mask, own = i < left, numbers + tl.load(at + _PLACE) * NUMBERS
    p = read(tl.load(at + _M_POS), first, i, mask, NARROW, EVEN)
    n = read(tl.load(at + _M_NEG), first, i, mask, NARROW, EVEN)
    p, n = _parts(at, first, own, keys, p, n, NOISY, ALIGNED, CHUNK)
    write(tl.load(at + _WEIGHT), first, i, mask, p - n, i, False, EVEN)


@jit
def put_point(
    places: Value, owners: Value, numbers: Value, NARROW: tl.constexpr, EVEN: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:  # fmt: skip
    """The mean or the median of the weights."""
    _, at, first, left = find(places, owners, COLUMNS, EVEN, CHUNK)
    i = tl.arange(0, CHUNK)
    mask, own = i < left, numbers + tl.load(at + _PLACE) * NUMBERS
    p = read(tl.load(at + _M_POS), first, i, mask, NARROW, EVEN)
    n = read(tl.load(at + _M_NEG), first, i, mask, NARROW, EVEN)
    write(tl.load(at + _WEIGHT), first, i, mask, (p - n) * tl.load(own + POINT), i, False, EVEN)


@jit
def add_gradients(
    places: Value, owners: Value, numbers: Value, keys: Value, NARROW: tl.constexpr,
    NOISY: tl.constexpr, ALIGNED: tl.constexpr, EVEN: tl.constexpr, CHUNK: tl.constexpr,
) -> None:  # fmt: skip
    """A draw's share of h+ and h-."""
    _, at, first, left = find(places, owners, COLUMNS, EVEN, CHUNK)
    i = tl.arange(0, CHUNK)
    mask, own = i < left, numbers + tl.load(at + _PLACE) * NUMBERS
    p = read(tl.load(at + _M_POS), first, i, mask, NARROW, EVEN)
    n = read(tl.load(at + _M_NEG), first, i, mask, NARROW, EVEN)
    p, n = _parts(at, first, own, keys, p, n, NOISY, ALIGNED, CHUNK)
    g = read(tl.load(at + _GRAD), first, i, mask, False, EVEN) * tl.load(own + SHARE)
    h, k = tl.load(at + _H_POS), tl.load(at + _H_NEG)
    write(h, first, i, mask, read(h, first, i, mask, False, EVEN) + p * g, i, False, EVEN)
    write(k, first, i, mask, read(k, first, i, mask, False, EVEN) - n * g, i, False, EVEN)


@jit
def _gradients(
    at: Value, first: Value, i: Value, mask: Value, own: Value, keys: Value, p: Value, n: Value,
    GIVEN: tl.constexpr, NOISY: tl.constexpr, ALIGNED: tl.constexpr, EVEN: tl.constexpr,
    CHUNK: tl.constexpr,
) -> Value:  # fmt: skip
    """h+ and h-, given or of one draw, limited."""
    if GIVEN:
        h = read(tl.load(at + _H_POS), first, i, mask, False, EVEN)
        k = read(tl.load(at + _H_NEG), first, i, mask, False, EVEN)
    else:
        p, n = _parts(at, first, own, keys, p, n, NOISY, ALIGNED, CHUNK)
        g = read(tl.load(at + _GRAD), first, i, mask, False, EVEN)
        h, k = p * g, n * -g
    return bounded(h), bounded(k)


@jit
def squares(
    places: Value, owners: Value, numbers: Value, keys: Value, sums: Value, NARROW: tl.constexpr,
    GIVEN: tl.constexpr, NOISY: tl.constexpr, ALIGNED: tl.constexpr, EVEN: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:  # fmt: skip
    """Sum of the squares of c+ and c- of every chunk, float64, which no square leaves."""
    _, at, first, left = find(places, owners, COLUMNS, EVEN, CHUNK)
    i = tl.arange(0, CHUNK)
    mask, own = i < left, numbers + tl.load(at + _PLACE) * NUMBERS
    p = read(tl.load(at + _M_POS), first, i, mask, NARROW, EVEN)
    n = read(tl.load(at + _M_NEG), first, i, mask, NARROW, EVEN)
    h, k = _gradients(at, first, i, mask, own, keys, p, n, GIVEN, NOISY, ALIGNED, EVEN, CHUNK)
    v = read(tl.load(at + _V_POS), first, i, mask, NARROW, EVEN)
    u = read(tl.load(at + _V_NEG), first, i, mask, NARROW, EVEN)
    beta, rest = tl.load(own + BETA1), tl.load(own + REST1)
    c, d = tl.fma(v, beta, h * rest).to(tl.float64), tl.fma(u, beta, k * rest).to(tl.float64)
    tl.store(sums + tl.program_id(0), tl.sum(tl.where(mask, c * c + d * d, 0.0), 0))


@jit
def invert(
    places: Value, sums: Value, inverse: Value, CHUNK: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    """1 / rms of c+ and c- of a tensor, float64; 0 for an rms of 0."""
    at = places + tl.program_id(0).to(tl.int64) * COLUMNS
    begin, count = tl.load(at), tl.load(at + 1)
    chunks = (count + (CHUNK - 1)) // CHUNK
    total = tl.zeros([BLOCK], tl.float64)
    done = chunks * 0
    while done < chunks:  # the interpreter takes no tensor for a range's end
        i = done + tl.arange(0, BLOCK)
        total += tl.load(sums + begin + i, i < chunks, other=0.0)
        done += BLOCK
    mean = tl.sum(total, 0) / tl.maximum(2 * count, 1).to(tl.float64)
    root = tl.sqrt(tl.where(mean > 0, mean, 1.0))
    tl.store(inverse + tl.load(at + _PLACE), tl.where(mean > 0, 1.0 / root, 0.0))


@jit
def _directed(
    c: Value, own: Value, at: Value, inverse: Value, BY_RMS: tl.constexpr
) -> Value:  # fmt: skip
    """Rate times the direction of c."""
    rate = tl.load(own + RATE)
    if BY_RMS:
        # In float64: 1 / a tiny rms has no room in float32.
        bound = tl.load(own + CLIP).to(tl.float64)
        wide = c.to(tl.float64) * tl.load(inverse + tl.load(at + _PLACE))
        x = limit(wide, -bound, bound).to(tl.float32) * rate
    else:
        x = tl.where(c == 0, 0.0, tl.where(c < 0, -rate, rate))
    return x


@jit
def _moved(
    m: Value, c: Value, own: Value, at: Value, inverse: Value, PRIOR: tl.constexpr,
    BY_RMS: tl.constexpr,
) -> Value:  # fmt: skip
    """A median's new value."""
    r = regularizer(
        m, tl.load(own + FACTOR), tl.load(own + SHIFT), tl.load(own + OCTAVES),
        tl.load(own + FRACTION), PRIOR,
    )  # fmt: skip
    octaves = tl.fma(r, tl.load(own + DECAY), _directed(c, own, at, inverse, BY_RMS))
    return limit(m * exp2(limit(octaves, -_LARGEST_MOVE, _LARGEST_MOVE)), _SMALLEST, _LARGEST)


@jit
def move(
    places: Value, owners: Value, numbers: Value, keys: Value, inverse: Value,
    PRIOR: tl.constexpr, BY_RMS: tl.constexpr, NARROW: tl.constexpr, GIVEN: tl.constexpr,
    NOISY: tl.constexpr, ALIGNED: tl.constexpr, EVEN: tl.constexpr, CHUNK: tl.constexpr,
) -> None:  # fmt: skip
    """Update the state, and put the weights to their point."""
    _, at, first, left = find(places, owners, COLUMNS, EVEN, CHUNK)
    i = tl.arange(0, CHUNK)
    mask, own = i < left, numbers + tl.load(at + _PLACE) * NUMBERS
    low, high = i, i
    if NARROW:
        # Each half of a word rounds a median and the other part's momentum.
        name = keys + tl.load(at + _PLACE) * 3
        element, none = tl.load(at + _START) + first, tl.zeros([], tl.int64)
        word = words_of(
            tl.load(name + 2), element, none, tl.load(name + 1), _ROUND, ALIGNED, CHUNK
        )  # fmt: skip
        low, high = word & 0xFFFF, (word >> 16) & 0xFFFF
    p = read(tl.load(at + _M_POS), first, i, mask, NARROW, EVEN)
    n = read(tl.load(at + _M_NEG), first, i, mask, NARROW, EVEN)
    h, k = _gradients(at, first, i, mask, own, keys, p, n, GIVEN, NOISY, ALIGNED, EVEN, CHUNK)
    v = read(tl.load(at + _V_POS), first, i, mask, NARROW, EVEN)
    u = read(tl.load(at + _V_NEG), first, i, mask, NARROW, EVEN)
    beta, rest = tl.load(own + BETA1), tl.load(own + REST1)
    c, d = tl.fma(v, beta, h * rest), tl.fma(u, beta, k * rest)
    beta, rest = tl.load(own + BETA2), tl.load(own + REST2)
    v, u = tl.fma(v, beta, h * rest), tl.fma(u, beta, k * rest)
    write(tl.load(at + _V_POS), first, i, mask, v, high, NARROW, EVEN)
    write(tl.load(at + _V_NEG), first, i, mask, u, low, NARROW, EVEN)
    p = _moved(p, c, own, at, inverse, PRIOR, BY_RMS)
    n = _moved(n, d, own, at, inverse, PRIOR, BY_RMS)
    p = write(tl.load(at + _M_POS), first, i, mask, p, low, NARROW, EVEN)
    n = write(tl.load(at + _M_NEG), first, i, mask, n, high, NARROW, EVEN)
    write(tl.load(at + _WEIGHT), first, i, mask, (p - n) * tl.load(own + POINT), i, False, EVEN)
