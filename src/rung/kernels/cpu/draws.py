"""Draws of stochastic rounding on the CPU; the reference is `rung.kernels.draws`."""

import torch
from torch import Tensor

from rung.kernels.cpu import draw_loops
from rung.kernels.cpu.memory import empty
from rung.kernels.cpu.threads import run, split


def encode_draws(key: int, start: int, count: int) -> Tensor:
    """Draws start ... start + count - 1; int16, (count,)."""
    first = start // 2
    words = encode_words(key, first, (start + count + 1) // 2 - first)
    return words.view(torch.int16)[start - 2 * first :][:count]


def encode_words(key: int, start: int, count: int) -> Tensor:
    """Words start ... start + count - 1; int32, (count,)."""
    first = start // 4
    blocks = (start + count + 3) // 4 - first
    words = empty((4 * blocks,), torch.int32)
    address = words.data_ptr()

    def fill(begin: int, end: int) -> None:
        draw_loops.fill(address + 16 * begin, key, first + begin, end - begin)

    if blocks:
        run(fill, split(blocks))
    return words[start - 4 * first :][:count]
