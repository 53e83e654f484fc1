"""The loop of `cpu.draws`, compiled by numba, and draws as uniform numbers."""

from typing import Any

import numpy as np
from numba.core import types

from rung.kernels.cpu import simd
from rung.kernels.cpu.arrays import array_at
from rung.kernels.cpu.jit import jit, lane, overload
from rung.kernels.cpu.memory_lanes import load
from rung.kernels.cpu.philox_lanes import WORDS, fill_words, key_schedule
from rung.kernels.cpu.simd import splat
from rung.kernels.philox import PURPOSE_ENCODE

_ZERO, _PURPOSE = np.int32(0), np.int32(PURPOSE_ENCODE)


@jit
def fill(address: Any, key: Any, first_block: Any, blocks: Any) -> None:
    """The words of consecutive blocks of a stream, 16 bytes each, at an address."""
    words, keys = array_at(address, _ZERO, 4 * blocks), np.empty(20, np.int32)
    key_schedule(key, keys)
    block, place = np.uint64(first_block), 0
    while place + WORDS <= 4 * blocks:
        fill_words(words, place, keys, block, _ZERO, _PURPOSE)
        place, block = place + WORDS, block + np.uint64(WORDS // 4)
    if place < 4 * blocks:
        rest = np.empty(WORDS, np.int32)
        fill_words(rest, 0, keys, block, _ZERO, _PURPOSE)
        for i in range(place, 4 * blocks):
            words[i] = rest[i - place]


@lane
def uniforms(draws: Any) -> Any:
    """The uniform numbers of sixteen draws in int32."""
    k = simd.to_float(draws & splat(np.int32(0xFFFF)))
    return (k + splat(np.float32(0.5))) * splat(np.float32(2.0**-16))


@lane
def uniform_of(draw: Any) -> Any:
    """The uniform number of one draw."""
    return np.float32(np.float32(np.int64(draw) & 0xFFFF) + np.float32(0.5)) * np.float32(2.0**-16)


def drawn(address: Any, like: Any, size: Any) -> Any:
    """`size` random numbers of `like`'s dtype at an address; None where `like` is None."""
    raise NotImplementedError  # numba takes the overload


def draws_at(draws: Any, i: Any) -> Any:
    """Sixteen draws as int32 from index i on; None where there are none."""
    raise NotImplementedError


# In a jitted function a branch that returns None and one that returns an array would make something
# optional, which no vector operation takes.


@overload(drawn)
def _drawn(address: Any, like: Any, size: Any) -> Any:
    def nothing(address: Any, like: Any, size: Any) -> Any:
        return None

    def array(address: Any, like: Any, size: Any) -> Any:
        return array_at(address, like, size)

    return nothing if isinstance(like, types.NoneType) else array


@overload(draws_at)
def _draws_at(draws: Any, i: Any) -> Any:
    def nothing(draws: Any, i: Any) -> Any:
        return None

    def sixteen(draws: Any, i: Any) -> Any:
        return load(draws, i)

    return nothing if isinstance(draws, types.NoneType) else sixteen
