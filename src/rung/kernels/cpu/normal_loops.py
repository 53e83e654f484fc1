"""The loop of `normal`, compiled by numba."""

from typing import Any

import numpy as np

from rung.kernels.cpu import lmd_lanes
from rung.kernels.cpu.float32_math import use_widest_vectors
from rung.kernels.cpu.jit import jit
from rung.kernels.cpu.memory_lanes import load, store
from rung.kernels.cpu.philox_lanes import WORDS, fill_words, key_schedule
from rung.kernels.philox import PURPOSE_NORMAL

_PURPOSE = np.int32(PURPOSE_NORMAL)
_u64 = np.uint64


@jit
def from_words(words: Any, eps_pos: Any, eps_neg: Any) -> None:
    """`normal.from_words` of int32 words, as many as a multiple of 16."""
    use_widest_vectors()
    for i in range(0, words.size, 16):
        x, y = lmd_lanes.normals(load(words, i))
        store(eps_pos, i, x)
        store(eps_neg, i, y)


@jit
def normals(eps_pos: Any, eps_neg: Any, key: Any, start: Any, step: Any, sample: Any) -> None:
    """Draws of elements start ... start + size - 1 into the two arrays."""
    use_widest_vectors()
    words, keys = np.empty(WORDS, np.int32), np.empty(20, np.int32)
    x, y = np.empty(WORDS, np.float32), np.empty(WORDS, np.float32)
    key_schedule(key, keys)
    for begin in range(-np.int64(start & _u64(3)), eps_pos.size, WORDS):
        block = ((start + _u64(begin)) >> _u64(2)) + (sample << _u64(32))
        fill_words(words, 0, keys, block, np.int32(np.uint32(step)), _PURPOSE)
        from_words(words, x, y)
        low, end = max(begin, 0), min(begin + WORDS, eps_pos.size)
        eps_pos[low:end] = x[low - begin : end - begin]
        eps_neg[low:end] = y[low - begin : end - begin]
