"""Philox4x32-10: random bits as a function of (key, counter), with no state between calls.

A draw depends only on its key and its counter, so the same element gets the same bits whatever the
chunking, the thread count, the order of tensors or the device. Three implementations agree bit for
bit: plain integers (`philox_scalar`, the oracle), PyTorch (any device, traceable), numba (CPU).

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

The counter's four words are used as

    (block index, low), (block index, high), (step), (purpose)

where a block is four 32-bit words and `purpose` keeps signs, weight rounding and moment rounding of
one parameter apart.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# Multipliers and Weyl increments of the published generator.
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_ROUNDS = 10

PURPOSE_SIGN, PURPOSE_ROUND, PURPOSE_MOMENT, PURPOSE_INIT, PURPOSE_ENCODE = range(5)
PURPOSE_NORMAL, PURPOSE_MOMENTUM, PURPOSE_PAIR = 5, 6, 7


def philox_scalar(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, ...]:
    """One block of Philox4x32-10 in plain integers: the oracle.

    Args:
        counter: Four words in [0, 2^32).
        key: Two words in [0, 2^32).

    Returns:
        Four words in [0, 2^32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (product1 >> 32) ^ c1 ^ k0,
            product1 & _MASK,
            (product0 >> 32) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


def philox_blocks(
    key: Tensor, first_block: int, blocks: int, step: int | Tensor, purpose: int
) -> Tensor:
    """Consecutive blocks of random words.

    Args:
        key: 0-d int64 tensor, the 64-bit key (two's complement); its device is the result's.
        first_block: Index of the first block, >= 0.
        blocks: Number of blocks.
        step: Third counter word (its low 32 bits count); a 0-d integer tensor keeps graphs static.
        purpose: Fourth counter word.

    Returns:
        int32 tensor of shape (4 * blocks,): the words' bit patterns in order.
    """
    # Fake and functional tensors (torch.compile) and other devices take the traceable reference.
    if type(key) is Tensor and key.device.type == "cpu" and not isinstance(step, Tensor):
        words = torch.empty(4 * blocks, dtype=torch.int32, device="cpu")
        if blocks:
            # One integer type for every argument: numba compiles once.
            numbers = (int(key) & (2**64 - 1), first_block, step, purpose)
            _fill()(words.numpy(), *map(np.uint64, numbers))
        return words
    return philox_blocks_reference(key, first_block, blocks, step, purpose)


def philox_blocks_reference(
    key: Tensor, first_block: int, blocks: int, step: int | Tensor, purpose: int
) -> Tensor:
    """`philox_blocks` in PyTorch operations on int64, on every device."""
    index = torch.arange(first_block, first_block + blocks, dtype=torch.int64, device=key.device)
    c0, c1 = index & _MASK, (index >> 32) & _MASK
    if isinstance(step, Tensor):
        step = step.to(torch.int64)
    c2 = torch.zeros_like(index) + (step & _MASK)
    c3 = torch.full_like(index, purpose)
    k0, k1 = key & _MASK, (key >> 32) & _MASK
    for _ in range(_ROUNDS):
        # A 32 x 32 bit product fills 64 bits; int64 wraps, and the masks undo the sign.
        product0, product1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _MASK) ^ c1 ^ k0,
            product1 & _MASK,
            ((product0 >> 32) & _MASK) ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    words = torch.stack((c0, c1, c2, c3), dim=1).reshape(-1)
    # int64 -> int32 by the bit pattern: values from 2^31 up become negative.
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


@functools.cache
def _fill() -> Callable[..., None]:
    """The numba kernel, compiled on first use or loaded from numba's disk cache."""
    from rung.kernels.cpu import philox_loops

    return philox_loops.fill  # type: ignore[no-any-return]


def random_words(key: Tensor, start: int, count: int, step: int | Tensor, purpose: int) -> Tensor:
    """Words start ... start + count - 1 of the stream (key, step, purpose).

    Returns:
        int32 tensor of shape (count,), uniform over all 2^32 bit patterns.
    """
    first_block = start // 4
    blocks = (start + count + 3) // 4 - first_block
    words = philox_blocks(key, first_block, blocks, step, purpose)
    return words[start - 4 * first_block :][:count]


def uniform(key: Tensor, start: int, count: int, step: int | Tensor, purpose: int) -> Tensor:
    """float32 uniforms in [0, 1) on the grid of 2^-24, one word each; shape (count,)."""
    words = random_words(key, start, count, step, purpose)
    return ((words >> 8) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def random_bytes(key: Tensor, start: int, count: int, step: int | Tensor, purpose: int) -> Tensor:
    """Bytes start ... start + count - 1 of the stream, little-endian in a word; uint8 (count,)."""
    first_word = start // 4
    words = random_words(key, first_word, (start + count + 3) // 4 - first_word, step, purpose)
    return words.view(torch.uint8)[start - 4 * first_word :][:count]


def key_from_seed(seed: int, name: str = "") -> int:
    """A 64-bit key (as a signed integer) for one named stream of a seed.

    Args:
        seed: Any integer.
        name: The stream, e.g. a parameter's qualified name, so that parameters draw apart in
            whatever order they are visited.
    """
    import hashlib

    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
