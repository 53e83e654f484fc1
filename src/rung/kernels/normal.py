"""Pairs of standard normal draws as a function of (key, element, step, sample).

Element i of a parameter takes words 2i and 2i + 1 of the Philox stream whose counter is

    (block index, low), (block index, high) + sample, (step), (PURPOSE_NORMAL)

and turns them into two independent normals (Box and Muller, 1958):

    u1 = (word + 0.5) / 2^32,  u2 = (next word >> 8) / 2^24
    eps_pos = sqrt(-2 ln u1) cos(2 pi u2),  eps_neg = sqrt(-2 ln u1) sin(2 pi u2)

so a draw is the same whatever the chunking, the order of tensors or the rank; |eps| <= 6.77. The
float32 versions compute ln u1 from the nearer end of (0, 1) and the angle from a quarter turn that
integers name, which leaves an absolute error of at most `ERROR`.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rung.kernels.philox import PURPOSE_NORMAL, philox_blocks_reference

ERROR = 2e-6  # largest |float32 draw - normal_pair_oracle|
SAMPLES = 2**31  # samples of one step that the counter keeps apart
STEPS = 2**32  # steps, likewise

_EIGHTH, _QUARTER = 1 << 21, 22  # of a turn of 2^24 steps; the quarter as a shift


def normal_pair(
    key: Tensor, start: int, count: int, step: int | Tensor, sample: int = 0
) -> tuple[Tensor, Tensor]:
    """Independent standard normals of elements start ... start + count - 1.

    Args:
        key: 0-d int64 tensor, the 64-bit key; its device is the result's.
        start: First element, >= 0.
        count: Number of elements.
        step: Third counter word, in [0, 2^32); of a 0-d integer tensor, which keeps graphs static,
            the low 32 bits count.
        sample: Number of the sample inside the step, in [0, 2^31).

    Returns:
        (eps_pos, eps_neg), float32 of shape (count,), within `ERROR` of the oracle.

    Raises:
        ValueError: for a sample, an element or a step that the counter has no room for.
    """
    # Fake and functional tensors (torch.compile) and other devices take the traceable reference.
    if type(key) is not Tensor or key.device.type != "cpu" or isinstance(step, Tensor):
        return normal_pair_reference(key, start, count, step, sample)
    check_range(start, count, sample, step)
    eps = [torch.empty(count, dtype=torch.float32, device="cpu") for _ in range(2)]
    # One integer type for every argument: numba compiles once.
    numbers = (int(key) & (2**64 - 1), start, step, sample)
    _fill()(*(e.numpy() for e in eps), *map(np.uint64, numbers))
    return eps[0], eps[1]


def normal_pair_reference(
    key: Tensor, start: int, count: int, step: int | Tensor, sample: int = 0
) -> tuple[Tensor, Tensor]:
    """`normal_pair` in PyTorch operations only, on every device; traceable."""
    check_range(start, count, sample, step)
    words = philox_blocks_reference(key, *_blocks(start, count, sample), step, PURPOSE_NORMAL)
    return from_words(*_split(words, start, count))


def normal_pair_oracle(
    key: Tensor, start: int, count: int, step: int | Tensor, sample: int = 0
) -> tuple[Tensor, Tensor]:
    """`normal_pair` in float64, by the formula."""
    check_range(start, count, sample, step)
    words = philox_blocks_reference(key, *_blocks(start, count, sample), step, PURPOSE_NORMAL)
    first, second = (w.to(torch.int64) & 0xFFFFFFFF for w in _split(words, start, count))
    u1 = (first.to(torch.float64) + 0.5) * 2.0**-32
    u2 = (second >> 8).to(torch.float64) * 2.0**-24
    radius = torch.sqrt(-2 * torch.log(u1))
    return radius * torch.cos(2 * math.pi * u2), radius * torch.sin(2 * math.pi * u2)


def from_words(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The float32 pair of two words each.

    Args:
        first: int32 bit patterns of the words that give the radius.
        second: int32 bit patterns of the words that give the angle, same shape.
    """
    # For a word w from 2^31 up, ~w counts from the upper end: 1 - u1 keeps its relative accuracy.
    from_end = first < 0
    distance = (torch.where(from_end, ~first, first).to(torch.float32) + 0.5) * 2.0**-32
    log_u1 = torch.where(from_end, torch.log1p(-distance), torch.log(distance))
    radius = torch.sqrt(-2 * log_u1)
    turn = (second >> 8) & 0xFFFFFF
    quarter = (turn + _EIGHTH) >> _QUARTER
    angle = (turn - (quarter << _QUARTER)).to(torch.float32) * (2 * math.pi * 2.0**-24)
    cos, sin = torch.cos(angle), torch.sin(angle)
    odd = (quarter & 1) != 0
    x, y = torch.where(odd, -sin, cos), torch.where(odd, cos, sin)
    sign = torch.where((quarter & 2) != 0, -radius, radius)
    return sign * x, sign * y


def check_range(start: int, count: int, sample: int, step: int | Tensor = 0) -> None:
    """Refuse what the counter's words cannot name; a step in a tensor is not looked at."""
    if not 0 <= sample < SAMPLES:
        raise ValueError(
            f"a sample's number must be in [0, 2^31); got {sample}. Count samples from 0 in each "
            "step."
        )
    if start < 0 or count < 0 or start + count > 2**33:
        raise ValueError(
            f"elements must lie in [0, 2^33); got {start} to {start + count}. Split the parameter, "
            "with a key for each part."
        )
    if not isinstance(step, Tensor) and not 0 <= step < STEPS:
        raise ValueError(
            f"a step must be in [0, 2^32); got {step}. Count steps from 0, with another key after "
            "the last."
        )


def _blocks(start: int, count: int, sample: int) -> tuple[int, int]:
    """First block and number of blocks of four words; two elements share a block."""
    first = start // 2
    return first + (sample << 32), (start + count + 1) // 2 - first


def _split(words: Tensor, start: int, count: int) -> tuple[Tensor, Tensor]:
    pairs = words.reshape(-1, 2)[start % 2 :][:count]
    return pairs[:, 0], pairs[:, 1]


@functools.cache
def _fill() -> Callable[..., None]:
    """The numba kernel, compiled on first use or loaded from numba's disk cache."""
    from rung.kernels.cpu import normal_loops

    return normal_loops.normals  # type: ignore[no-any-return]
