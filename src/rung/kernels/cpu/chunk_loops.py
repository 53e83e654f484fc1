"""What every multi-tensor loop needs: random bits of a chunk, odd tails.

The loops are given addresses as int64: an array's type and reference count would cost more time to
compile and to run than their arithmetic.
"""

from typing import Any

import numpy as np

from rung.kernels.cpu.arrays import array_at
from rung.kernels.cpu.float32_math import use_widest_vectors
from rung.kernels.cpu.jit import called
from rung.kernels.cpu.lane_control import loop

CHUNK = 8192  # elements, a multiple of 128: whole blocks of random signs

_u64, _u8 = np.uint64, np.uint8
_M0, _M1 = _u64(0xD2511F53), _u64(0xCD9E8D57)
_W0, _W1 = _u64(0x9E3779B9), _u64(0xBB67AE85)
_MASK, _WORD = _u64(0xFFFFFFFF), _u64(32)


@called
def fill_words(
    target: Any, blocks: Any, key: Any, first_block: Any, step: Any, purpose: Any
) -> None:
    """Blocks of `philox.philox_blocks`, in order, sixteen bytes each.

    Args:
        target: Address.
        blocks: Their number.
        key: 64-bit key, uint64.
        first_block: Index of the first block, uint64.
        step: Third counter word, uint64.
        purpose: Fourth counter word, uint64.
    """
    use_widest_vectors()
    words = array_at(target, _u64(0), 2 * blocks)
    key1 = key >> _WORD
    for block in loop(0, blocks):
        index = first_block + _u64(block)
        c0, c1, c2, c3 = index, index >> _WORD, step, purpose
        k0, k1 = key, key1
        for _ in range(10):
            # The lanes' high halves hold rubbish, which these products ignore.
            product0, product1 = _M0 * (c0 & _MASK), _M1 * (c2 & _MASK)
            c0, c1 = (product1 >> _WORD) ^ c1 ^ k0, product1
            c2, c3 = (product0 >> _WORD) ^ c3 ^ k1, product0
            k0, k1 = k0 + _W0, k1 + _W1
        words[2 * block] = (c0 & _MASK) | (c1 << _WORD)
        words[2 * block + 1] = (c2 & _MASK) | (c3 << _WORD)


@called
def copy_bytes(target: Any, source: Any, count: Any) -> None:
    """Bytes from one address to another."""
    theirs, ours = array_at(source, _u8(0), count), array_at(target, _u8(0), count)
    for i in loop(0, count):
        ours[i] = theirs[i]
