"""What LMD's loop does with sixteen elements, for each of its modes; compiled by numba.

`a` are eight addresses: weight, gradient, h+, h-, m+, m-, v+, v- of the first of the sixteen. State
is float32 or, where `like` is a uint16, bfloat16. Importing this imports numba.
"""

from typing import Any

import numpy as np
from numba import types

from rung.kernels import lmd
from rung.kernels.cpu.jit import lane, overload
from rung.kernels.cpu.lane_control import Variable, either
from rung.kernels.cpu.lmd_lanes import (
    NARROW,
    bounded,
    exp2,
    exp2_narrow,
    log2_scaled,
    narrow,
    normals,
    read_state,
    relative,
    sum_of_squares,
    write_state,
)
from rung.kernels.cpu.memory_lanes import read, write, write_past
from rung.kernels.cpu.simd import bits_of, float_of, fma, select, shift_right, splat
from rung.kernels.normal import LARGEST as LARGEST_NORMAL

_f32, _i32 = np.float32, np.int32
_SMALLEST, _LARGEST = _f32(lmd.SMALLEST), _f32(lmd.LARGEST)
_LARGEST_MOVE = _f32(lmd.LARGEST_MOVE / np.log(2))
_SIGN = _i32(-0x80000000)
_NARROW_SIGMA = _f32(NARROW / LARGEST_NORMAL)
APART = 256  # bytes between the factors of w+ and of w-
WEIGHT, GRAD, H_POS, H_NEG, M_POS, M_NEG, V_POS, V_NEG = range(8)


@lane
def _limit(x: Any, low: Any, high: Any) -> Any:
    x = select(x > splat(low), x, splat(low))
    return select(x < splat(high), x, splat(high))


@lane
def make_factors(target: Any, words: Any, sigma: Any) -> None:
    """e^(sigma eps) of sixteen words' pairs, sigma over ln 2: at `target`, and `APART` behind."""
    x, y = normals(read(words, _i32(0)))
    x, y = x * splat(sigma), y * splat(sigma)
    with either(sigma < _NARROW_SIGMA) as (small, other):
        for side, power in ((small, exp2_narrow), (other, exp2)):
            with side:
                write(target, _f32(0), power(x))
                write(target + APART, _f32(0), power(y))


@lane
def _parts(p: Any, n: Any, factors: Any, noisy: Any) -> Any:
    """w+ and w- of medians, by `make_factors`."""
    if noisy is None:
        return p, n
    return p * read(factors, _f32(0)), n * read(factors + APART, _f32(0))


@lane
def _put(place: Any, value: Any, past: Any) -> None:
    with either(past != 0) as (by, through):
        with by:
            write_past(place, value)
        with through:
            write(place, _f32(0), value)


@lane
def draw(a: Any, factors: Any, like: Any, noisy: Any, past: Any) -> None:
    """A sample of the weights."""
    p, n = read_state(a[M_POS], like), read_state(a[M_NEG], like)
    pos, neg = _parts(p, n, factors, noisy)
    _put(a[WEIGHT], pos - neg, past)


@lane
def put_point(a: Any, factor: Any, like: Any, past: Any) -> None:
    """The mean or the median of the weights."""
    p, n = read_state(a[M_POS], like), read_state(a[M_NEG], like)
    _put(a[WEIGHT], (p - n) * splat(factor), past)


@lane
def add_gradients(a: Any, factors: Any, share: Any, like: Any, noisy: Any) -> None:
    """A draw's share of h+ and h-."""
    p, n = read_state(a[M_POS], like), read_state(a[M_NEG], like)
    pos, neg = _parts(p, n, factors, noisy)
    g = read(a[GRAD], _f32(0)) * splat(share)
    write(a[H_POS], _f32(0), read(a[H_POS], _f32(0)) + pos * g)
    write(a[H_NEG], _f32(0), read(a[H_NEG], _f32(0)) - neg * g)


@lane
def _gradients(a: Any, p: Any, n: Any, factors: Any, noisy: Any, given: Any) -> Any:
    """h+ and h-, given or of one draw, limited."""
    if given is not None:
        return bounded(read(a[H_POS], _f32(0))), bounded(read(a[H_NEG], _f32(0)))
    pos, neg = _parts(p, n, factors, noisy)
    g = read(a[GRAD], _f32(0))
    return bounded(pos * g), bounded(neg * float_of(bits_of(g) ^ splat(_SIGN)))


@lane
def squares(a: Any, factors: Any, beta: Any, rest: Any, like: Any, noisy: Any, given: Any) -> Any:
    """Sum of the squares of c+ and c-, float64."""
    p, n = read_state(a[M_POS], like), read_state(a[M_NEG], like)
    h, k = _gradients(a, p, n, factors, noisy, given)
    c = fma(splat(beta), read_state(a[V_POS], like), splat(rest) * h)
    d = fma(splat(beta), read_state(a[V_NEG], like), splat(rest) * k)
    return sum_of_squares(c) + sum_of_squares(d)


@lane
def _signed(c: Any, rate: Any) -> Any:
    """Rate times the sign of c."""
    signed = float_of(bits_of(rate) ^ (bits_of(c) & splat(_SIGN)))
    return select(c == splat(_f32(0.0)), splat(_f32(0.0)), signed)


def regularizer(m: Any, prior: Any, factor: Any, shift: Any, octaves: Any, fraction: Any) -> Any:
    """R of the prior, of the lognormal one over ln 2; the type of `prior` says which."""
    raise NotImplementedError  # numba's alone


PRIORS = {
    "lognormal": np.uint8(0), "exponential": np.uint16(0), "gaussian": np.uint32(0),
    "constant": np.uint64(0),
}  # fmt: skip


@overload(regularizer)
def _regularizer(m: Any, prior: Any, factor: Any, shift: Any, octaves: Any, fraction: Any) -> Any:
    def lognormal(m: Any, prior: Any, factor: Any, shift: Any, octaves: Any, fraction: Any) -> Any:
        return log2_scaled(m, octaves, fraction)

    def exponential(
        m: Any, prior: Any, factor: Any, shift: Any, octaves: Any, fraction: Any
    ) -> Any:
        return _limit(m * splat(factor), _SMALLEST, _LARGEST) - splat(shift)

    def gaussian(m: Any, prior: Any, factor: Any, shift: Any, octaves: Any, fraction: Any) -> Any:
        ratio = _limit(m * splat(factor), _SMALLEST, _LARGEST)
        return _limit(ratio * ratio, _f32(0.0), _LARGEST) - splat(shift)

    def constant(m: Any, prior: Any, factor: Any, shift: Any, octaves: Any, fraction: Any) -> Any:
        return splat(_f32(1.0))

    kinds = (types.uint8, types.uint16, types.uint32, types.uint64)
    return dict(zip(kinds, (lognormal, exponential, gaussian, constant), strict=True))[prior]


@lane
def _moved(p: Any, n: Any, x: Any, y: Any) -> Any:
    """Medians times 2^x and 2^y."""
    a, b = Variable(p), Variable(n)
    with either(narrow(x, y)) as (small, other):
        with small:
            a.now, b.now = p * exp2_narrow(x), n * exp2_narrow(y)
        with other:
            a.now = p * exp2(_limit(x, -_LARGEST_MOVE, _LARGEST_MOVE))
            b.now = n * exp2(_limit(y, -_LARGEST_MOVE, _LARGEST_MOVE))
    return _limit(a.now, _SMALLEST, _LARGEST), _limit(b.now, _SMALLEST, _LARGEST)


@lane
def move(
    a: Any, factors: Any, draws: Any, numbers: Any, like: Any, prior: Any, noisy: Any, given: Any,
    by_rms: Any, past: Any,
) -> None:  # fmt: skip
    """Update the state, and put the weights to their point."""
    (rate, beta1, rest1, beta2, rest2, _, factor, shift, decay, point, inverse, clip, octaves,
     fraction) = numbers  # fmt: skip
    p, n = read_state(a[M_POS], like), read_state(a[M_NEG], like)
    h, k = _gradients(a, p, n, factors, noisy, given)
    # Each half of a word rounds a median and the other part's momentum.
    bits = read(draws, _i32(0))
    swapped = (bits << splat(_i32(16))) | shift_right(bits, splat(_i32(16)))
    v, u = read_state(a[V_POS], like), read_state(a[V_NEG], like)
    c = fma(splat(beta1), v, splat(rest1) * h)
    d = fma(splat(beta1), u, splat(rest1) * k)
    write_state(a[V_POS], like, fma(splat(beta2), v, splat(rest2) * h), swapped)
    write_state(a[V_NEG], like, fma(splat(beta2), u, splat(rest2) * k), bits)
    if by_rms is None:
        x, y = _signed(c, splat(rate)), _signed(d, splat(rate))
    else:
        x = relative(c, inverse, clip) * splat(rate)
        y = relative(d, inverse, clip) * splat(rate)
    x = fma(splat(decay), regularizer(p, prior, factor, shift, octaves, fraction), x)
    y = fma(splat(decay), regularizer(n, prior, factor, shift, octaves, fraction), y)
    p, n = _moved(p, n, x, y)
    p = write_state(a[M_POS], like, p, bits)
    n = write_state(a[M_NEG], like, n, swapped)
    _put(a[WEIGHT], (p - n) * splat(point), past)
