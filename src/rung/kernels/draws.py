"""Random numbers of stochastic rounding.

Formats with a logarithm draw sixteen bits an element, two elements to a word of Philox. Draw i of a
key is half i mod 2 (the low one first) of word i // 2 of its stream. As a uniform number it is
(k + 1/2) / 2^16, so that odds are met to within 2^-17, without a bias on average, and odds of 0
never move anything. Small floats draw a word an element, of which 24 bits count: as many as they
keep of a quotient.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from rung.kernels.philox import PURPOSE_ENCODE, random_words


def encode_draws(key: Tensor, start: int, count: int) -> Tensor:
    """Draws start ... start + count - 1 of a key (0-d int64); int16 bit patterns, (count,)."""
    if type(key) is Tensor and key.device.type == "cpu" and not torch.compiler.is_compiling():
        draws: Tensor = _fast().encode_draws(int(key), start, count)
        return draws
    return draws_reference(key, start, count)


def draws_reference(key: Tensor, start: int, count: int) -> Tensor:
    """`encode_draws` in PyTorch operations, on every device."""
    first = start // 2
    words = random_words(key, first, (start + count + 1) // 2 - first, 0, PURPOSE_ENCODE)
    return words.view(torch.int16)[start - 2 * first :][:count]


def uniforms(draws: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform numbers in (0, 1) of draws, exact."""
    return ((draws.to(torch.int32) & 0xFFFF).to(dtype) + 0.5) * 2.0**-16


def encode_words(key: Tensor, start: int, count: int) -> Tensor:
    """Words start ... start + count - 1 of a key (0-d int64); int32, (count,)."""
    if type(key) is Tensor and key.device.type == "cpu" and not torch.compiler.is_compiling():
        words: Tensor = _fast().encode_words(int(key), start, count)
        return words
    return random_words(key, start, count, 0, PURPOSE_ENCODE)


def uniforms_of_words(words: Tensor) -> Tensor:
    """float32 uniform numbers in [0, 1) of words, on the grid of 2^-24."""
    return ((words >> 8) & 0xFFFFFF).to(torch.float32) * 2.0**-24


@functools.cache
def _fast() -> Any:
    from rung.kernels.cpu import draws

    return draws
