"""The loops of `cpu.lmd`, compiled by numba. Importing this imports numba.

A tensor is walked in chunks that stay in the first cache level, each in stages of one simple loop:
words, draws, momenta, directions, medians, weight. Simple loops are what LLVM vectorizes.
"""

from typing import Any

import numpy as np

from rung.kernels import lmd
from rung.kernels.cpu.float32_math import exp, fma, log, use_widest_vectors
from rung.kernels.cpu.jit import jit
from rung.kernels.cpu.normal_loops import CHUNK, fill_normals, fill_words

_f32, _u64 = np.float32, np.uint64
_SMALLEST, _LARGEST, _LARGEST_H = map(_f32, (lmd.SMALLEST, lmd.LARGEST, lmd.LARGEST_H))
_LARGEST_MOVE = _f32(lmd.LARGEST_MOVE)
_ZERO, _ONE = _f32(0.0), _f32(1.0)
LOGNORMAL, EXPONENTIAL, GAUSSIAN, CONSTANT = range(4)  # the order of lmd.PRIORS


@jit
def _draw(
    first: Any, second: Any, eps_pos: Any, eps_neg: Any, sigma: Any, key: Any, element: Any,
    step: Any, sample: Any,
) -> None:  # fmt: skip
    """Draws of CHUNK elements from an even one on; left as they are where sigma is 0."""
    if sigma > 0:
        fill_words(first, second, key, (element >> _u64(1)) + (sample << _u64(32)), step)
        fill_normals(first.view(np.int32), second.view(np.int32), eps_pos, eps_neg)


@jit
def _difference(
    weight: Any, m_pos: Any, m_neg: Any, eps_pos: Any, eps_neg: Any, sigma: Any
) -> None:
    use_widest_vectors()
    for i in range(weight.size):
        weight[i] = m_pos[i] * exp(sigma * eps_pos[i]) - m_neg[i] * exp(sigma * eps_neg[i])


@jit
def sample_into(
    weight: Any, m_pos: Any, m_neg: Any, sigma: Any, key: Any, start: Any, step: Any, sample: Any
) -> None:
    """`lmd.sample_into`."""
    use_widest_vectors()
    first, second = np.empty(CHUNK // 2, np.uint64), np.empty(CHUNK // 2, np.uint64)
    eps_pos, eps_neg = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    for begin in range(-np.int64(start & _u64(1)), weight.size, CHUNK):
        _draw(first, second, eps_pos, eps_neg, sigma, key, start + _u64(begin), step, sample)
        low, end = max(begin, 0), min(begin + CHUNK, weight.size)
        a, b = low - begin, end - begin
        _difference(
            weight[low:end], m_pos[low:end], m_neg[low:end], eps_pos[a:b], eps_neg[a:b], sigma
        )


@jit
def point_into(weight: Any, m_pos: Any, m_neg: Any, factor: Any) -> None:
    """`lmd.point_into`."""
    use_widest_vectors()
    for i in range(weight.size):
        weight[i] = (m_pos[i] - m_neg[i]) * factor


@jit
def _add_half(h: Any, grad: Any, m: Any, eps: Any, sigma: Any, share: Any) -> None:
    use_widest_vectors()
    for i in range(h.size):
        h[i] += m[i] * exp(sigma * eps[i]) * (grad[i] * share)


@jit
def accumulate_into(
    h_pos: Any, h_neg: Any, grad: Any, m_pos: Any, m_neg: Any, sigma: Any, key: Any, start: Any,
    step: Any, sample: Any, share: Any,
) -> None:  # fmt: skip
    """`lmd.accumulate_into` with share = 1 / samples."""
    use_widest_vectors()
    first, second = np.empty(CHUNK // 2, np.uint64), np.empty(CHUNK // 2, np.uint64)
    eps_pos, eps_neg = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    for begin in range(-np.int64(start & _u64(1)), grad.size, CHUNK):
        _draw(first, second, eps_pos, eps_neg, sigma, key, start + _u64(begin), step, sample)
        low, end = max(begin, 0), min(begin + CHUNK, grad.size)
        a, b = low - begin, end - begin
        g = grad[low:end]
        _add_half(h_pos[low:end], g, m_pos[low:end], eps_pos[a:b], sigma, share)
        _add_half(h_neg[low:end], g, m_neg[low:end], eps_neg[a:b], sigma, -share)


@jit
def _finite(h: Any) -> Any:
    """`lmd.bounded`."""
    h = h if h == h else _ZERO
    h = h if h < _LARGEST_H else _LARGEST_H
    return h if h > -_LARGEST_H else -_LARGEST_H


@jit
def _sign(c: Any) -> Any:
    up = _ONE if c > _ZERO else _ZERO
    return -_ONE if c < _ZERO else up


@jit
def _advance(
    m: Any, grad: Any, eps: Any, sigma: Any, side: Any, v: Any, c: Any, signs: Any, betas: Any
) -> None:
    """v, and c or its sign, from the gradient; `side` is 1 for the positive part, else -1."""
    use_widest_vectors()
    beta1, rest1, beta2, rest2 = betas
    if signs:
        for i in range(m.size):
            h, old = _finite(m[i] * exp(sigma * eps[i]) * grad[i] * side), v[i]
            c[i] = _sign(beta1 * old + rest1 * h)
            v[i] = beta2 * old + rest2 * h
    else:
        for i in range(m.size):
            h, old = _finite(m[i] * exp(sigma * eps[i]) * grad[i] * side), v[i]
            c[i] = beta1 * old + rest1 * h
            v[i] = beta2 * old + rest2 * h


@jit
def _advance_from(given: Any, v: Any, c: Any, signs: Any, betas: Any) -> None:
    """`_advance` with h given."""
    use_widest_vectors()
    beta1, rest1, beta2, rest2 = betas
    for i in range(given.size):
        h, old = _finite(given[i]), v[i]
        value = beta1 * old + rest1 * h
        c[i] = _sign(value) if signs else value
        v[i] = beta2 * old + rest2 * h


@jit
def _ratios(c: Any, u: Any, inverse: Any, clip: Any) -> None:
    """Directions c / rms within +-clip; the quotient in float64, whose range no rms leaves."""
    for i in range(c.size):
        x = np.float64(c[i]) * inverse
        x = x if x < clip else clip
        u[i] = _f32(x if x > -clip else -clip)


@jit
def _add_squares(c: Any, sums: Any) -> None:
    """One float64 sum per place in a chunk: no order of addition that vectors would change."""
    for i in range(c.size):
        sums[i] += np.float64(c[i]) * np.float64(c[i])


@jit
def _ratio(m: Any, factor: Any) -> Any:
    x = m * factor
    x = x if x > _SMALLEST else _SMALLEST
    return x if x < _LARGEST else _LARGEST


@jit
def _regularizer(m: Any, r: Any, prior: Any, factor: Any, shift: Any) -> None:
    """R of the prior into r."""
    use_widest_vectors()
    if prior == LOGNORMAL:
        for i in range(m.size):
            r[i] = log(_ratio(m[i], factor))
    elif prior == EXPONENTIAL:
        for i in range(m.size):
            r[i] = _ratio(m[i], factor) - shift
    elif prior == GAUSSIAN:
        for i in range(m.size):
            square = _ratio(m[i], factor) * _ratio(m[i], factor)
            r[i] = (square if square < _LARGEST else _LARGEST) - shift
    else:
        r[:] = _ONE


@jit
def _move(m: Any, u: Any, r: Any, lr: Any, decay: Any) -> None:
    use_widest_vectors()
    for i in range(m.size):
        x = fma(decay, r[i], lr * u[i])
        x = x if x < _LARGEST_MOVE else _LARGEST_MOVE
        x = x if x > -_LARGEST_MOVE else -_LARGEST_MOVE
        x = m[i] * exp(-x)
        x = x if x > _SMALLEST else _SMALLEST
        m[i] = x if x < _LARGEST else _LARGEST


@jit
def _finish(
    weight: Any, m_pos: Any, m_neg: Any, u_pos: Any, u_neg: Any, r: Any, lr: Any, decay: Any,
    prior: Any, factor: Any, shift: Any, point: Any,
) -> None:  # fmt: skip
    """New medians from the directions, and the weight from those."""
    use_widest_vectors()
    _regularizer(m_pos, r, prior, factor, shift)
    _move(m_pos, u_pos, r, lr, decay)
    _regularizer(m_neg, r, prior, factor, shift)
    _move(m_neg, u_neg, r, lr, decay)
    point_into(weight, m_pos, m_neg, point)


@jit
def update(
    weight: Any, grad: Any, m_pos: Any, m_neg: Any, v_pos: Any, v_neg: Any, h_pos: Any, h_neg: Any,
    given: Any, c_neg: Any, by_rms: Any, clip: Any, sigma: Any, key: Any, start: Any, step: Any,
    sample: Any, betas: Any, lr: Any, decay: Any, prior: Any, factor: Any, shift: Any, point: Any,
) -> None:  # fmt: skip
    """`lmd.update`, or `lmd.update_from` where h+- are `given`.

    Where directions are relative (`by_rms`), c waits for a second pass: c+ in `weight`, c- in
    `c_neg`. Arrays that are not read have no elements.
    """
    use_widest_vectors()
    first, second = np.empty(CHUNK // 2, np.uint64), np.empty(CHUNK // 2, np.uint64)
    eps_pos, eps_neg = np.zeros(CHUNK, np.float32), np.zeros(CHUNK, np.float32)
    own_c, r = np.empty((2, CHUNK), np.float32), np.empty(CHUNK, np.float32)
    sums = np.zeros(CHUNK, np.float64)
    for begin in range(-np.int64(start & _u64(1)), weight.size, CHUNK):
        low, end = max(begin, 0), min(begin + CHUNK, weight.size)
        a, b = low - begin, end - begin
        w, p, n, v, x = (
            weight[low:end],
            m_pos[low:end],
            m_neg[low:end],
            v_pos[low:end],
            v_neg[low:end],
        )
        c, d = own_c[0, a:b], own_c[1, a:b]
        if by_rms:
            c, d = w, c_neg[low:end]
        if given:
            _advance_from(h_pos[low:end], v, c, not by_rms, betas)
            _advance_from(h_neg[low:end], x, d, not by_rms, betas)
        else:
            g = grad[low:end]
            _draw(first, second, eps_pos, eps_neg, sigma, key, start + _u64(begin), step, sample)
            _advance(p, g, eps_pos[a:b], sigma, _ONE, v, c, not by_rms, betas)
            _advance(n, g, eps_neg[a:b], sigma, -_ONE, x, d, not by_rms, betas)
        if by_rms:
            _add_squares(c, sums)
            _add_squares(d, sums)
        else:
            _finish(w, p, n, c, d, r[a:b], lr, decay, prior, factor, shift, point)
    if by_rms and weight.size:
        rms = np.sqrt(np.sum(sums) / (2 * weight.size))
        inverse = 1 / rms if rms > 0 else 0.0
        for low in range(0, weight.size, CHUNK):
            end = min(low + CHUNK, weight.size)
            w, d = weight[low:end], c_neg[low:end]
            c = own_c[0, : end - low]
            _ratios(w, c, inverse, clip)
            e = own_c[1, : end - low]
            _ratios(d, e, inverse, clip)
            _finish(
                w, m_pos[low:end], m_neg[low:end], c, e, r[: end - low], lr, decay, prior, factor,
                shift, point,
            )  # fmt: skip
