"""The loop of `philox`, compiled by numba."""

from typing import Any

import numpy as np

from rung.kernels.cpu.jit import jit

_u32, _u64 = np.uint32, np.uint64
_M0, _M1, _MASK, _WORD = _u64(0xD2511F53), _u64(0xCD9E8D57), _u64(0xFFFFFFFF), _u64(32)
_W0, _W1 = _u32(0x9E3779B9), _u32(0xBB67AE85)


@jit
def fill(words: Any, key: Any, first_block: Any, step: Any, purpose: Any) -> None:
    """Consecutive blocks of random words into int32 `words`; see `philox.philox_blocks`."""
    key_low, key_high = _u32(key & _MASK), _u32(key >> _WORD)
    for block in range(words.size // 4):
        index = first_block + _u64(block)
        c0, c1 = _u32(index & _MASK), _u32(index >> _WORD)
        c2, c3 = _u32(step & _MASK), _u32(purpose)
        k0, k1 = key_low, key_high
        for _ in range(10):
            product0, product1 = _M0 * _u64(c0), _M1 * _u64(c2)
            c0, c1, c2, c3 = (
                _u32(product1 >> _WORD) ^ c1 ^ k0,
                _u32(product1 & _MASK),
                _u32(product0 >> _WORD) ^ c3 ^ k1,
                _u32(product0 & _MASK),
            )
            k0, k1 = _u32(k0 + _W0), _u32(k1 + _W1)
        words[4 * block] = np.int32(c0)
        words[4 * block + 1] = np.int32(c1)
        words[4 * block + 2] = np.int32(c2)
        words[4 * block + 3] = np.int32(c3)
