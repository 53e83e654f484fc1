"""The loops of `normal`, compiled by numba: chunks of words, then of draws."""

from typing import Any

import numpy as np

from rung.kernels.cpu.float32_math import cos_sin, radius, use_widest_vectors
from rung.kernels.cpu.jit import jit
from rung.kernels.philox import PURPOSE_NORMAL

CHUNK = 512  # elements; its temporaries stay in the first cache level

_u64 = np.uint64
_M0, _M1 = _u64(0xD2511F53), _u64(0xCD9E8D57)
_W0, _W1 = _u64(0x9E3779B9), _u64(0xBB67AE85)
_MASK, _WORD = _u64(0xFFFFFFFF), _u64(32)
_PURPOSE = _u64(PURPOSE_NORMAL)


@jit
def _round(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """One round of Philox on words in 64-bit lanes, where products need no widening.

    The lanes' high halves hold rubbish: masking the factors alone costs nothing, since the
    instruction for such products ignores them.
    """
    product0, product1 = _M0 * (c0 & _MASK), _M1 * (c2 & _MASK)
    return (product1 >> _WORD) ^ c1 ^ k0, product1, (product0 >> _WORD) ^ c3 ^ k1, product0


@jit
def _pair(low: Any, high: Any) -> Any:
    return (low & _MASK) | (high << _WORD)


@jit
def fill_words(first: Any, second: Any, key: Any, first_block: Any, step: Any) -> None:
    """Words 2i of the stream into `first`, 2i + 1 into `second`, from a block's beginning.

    Args:
        first: uint64 array; each item holds the words of two consecutive elements.
        second: uint64 array of the same size.
        key: 64-bit key, uint64.
        first_block: Index of the first block, uint64.
        step: Third counter word, uint64.
    """
    use_widest_vectors()
    key1 = key >> _WORD
    # Two blocks side by side: one's long chain of products leaves the processor waiting.
    half = first.size // 2
    for lane in range(half):
        a, b = first_block + _u64(lane), first_block + _u64(lane + half)
        a0, a1, a2, a3 = a, a >> _WORD, step, _PURPOSE
        b0, b1, b2, b3 = b, b >> _WORD, step, _PURPOSE
        k0, k1 = key, key1
        for _ in range(10):
            a0, a1, a2, a3 = _round(a0, a1, a2, a3, k0, k1)
            b0, b1, b2, b3 = _round(b0, b1, b2, b3, k0, k1)
            k0, k1 = k0 + _W0, k1 + _W1
        first[lane], second[lane] = _pair(a0, a2), _pair(a1, a3)
        first[lane + half], second[lane + half] = _pair(b0, b2), _pair(b1, b3)


@jit
def fill_normals(first: Any, second: Any, eps_pos: Any, eps_neg: Any) -> None:
    """Draws of int32 words; see `normal.from_words`."""
    use_widest_vectors()
    for i in range(first.size):
        r = radius(first[i])
        x, y = cos_sin(second[i])
        eps_pos[i], eps_neg[i] = r * x, r * y


@jit
def normals(eps_pos: Any, eps_neg: Any, key: Any, start: Any, step: Any, sample: Any) -> None:
    """Draws of elements start ... start + size - 1 into the two arrays."""
    use_widest_vectors()
    first, second = np.empty(CHUNK // 2, np.uint64), np.empty(CHUNK // 2, np.uint64)
    x, y = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
    lead = np.int64(start & _u64(1))
    for begin in range(-lead, eps_pos.size, CHUNK):
        block = ((start + _u64(begin)) >> _u64(1)) + (sample << _WORD)
        fill_words(first, second, key, block, step)
        fill_normals(first.view(np.int32), second.view(np.int32), x, y)
        low, end = max(begin, 0), min(begin + CHUNK, eps_pos.size)
        eps_pos[low:end] = x[low - begin : end - begin]
        eps_neg[low:end] = y[low - begin : end - begin]
