"""Pairs of standard normal draws as a function of (key, element, step, sample).

Element i of a parameter takes word i of the Philox stream whose counter is

    (block index, low), (block index, high) + sample, (step), (PURPOSE_NORMAL)

and turns it into two independent normals (Box and Muller, 1958): its upper 18 bits k give the
radius, the next 12 bits a the angle inside a quarter, the last two bits the quarter as two signs:

    r = sqrt(-2 ln((k + 1/2) / 2^18)),  phi = (pi / 2) (a + 1/2) / 2^12
    eps_pos = +-r cos(phi),  eps_neg = +-r sin(phi)          minus where bit 0, bit 1 is set

so a draw is the same whatever the chunking, the order of tensors or the rank.

What 32 bits leave out of the normal distribution: |eps| ends at `LARGEST`, beyond which 3 in 10^7
of a normal's draws lie, and its tail is 1 % too thin at 4.5, 4 % at 5. The 2^14 angles lie evenly,
so that moments have an error by the radius alone: a variance too small by 1.4e-6, a fourth moment
by 2e-5 of its size. The distribution function is wrong by less than `DISTRIBUTION_ERROR` for |x|
under 0.001, where angles near an axis are counted one by one, and by 2e-7 elsewhere. The float32
versions add an absolute error of at most `ERROR`.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rung.kernels.philox import PURPOSE_NORMAL, philox_blocks_reference

ERROR = 2e-6  # largest |float32 draw - normal_pair_oracle|
LARGEST = 5.14  # no |eps| is greater: sqrt(2 ln 2^19)
DISTRIBUTION_ERROR = 5e-5  # of one eps's distribution function
SAMPLES = 2**31  # samples of one step that the counter keeps apart
STEPS = 2**32  # steps, likewise


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
    return from_words(_part(words, start, count))


def normal_pair_oracle(
    key: Tensor, start: int, count: int, step: int | Tensor, sample: int = 0
) -> tuple[Tensor, Tensor]:
    """`normal_pair` in float64, by the formula."""
    check_range(start, count, sample, step)
    words = philox_blocks_reference(key, *_blocks(start, count, sample), step, PURPOSE_NORMAL)
    word = _part(words, start, count).to(torch.int64) & 0xFFFFFFFF
    radius = torch.sqrt(-2 * torch.log(((word >> 14).to(torch.float64) + 0.5) * 2.0**-18))
    angle = (((word >> 2) & 0xFFF).to(torch.float64) + 0.5) * (math.pi / 2 * 2.0**-12)
    return _sign(word, 0) * radius * torch.cos(angle), _sign(word, 1) * radius * torch.sin(angle)


def from_words(words: Tensor) -> tuple[Tensor, Tensor]:
    """The float32 pair of a word each, given as int32 bit patterns."""
    k = ((words >> 14) & 0x3FFFF).to(torch.float32)
    # From u = 1/2 up by 1 - u, which is exact and keeps its logarithm's relative accuracy.
    to_one = 1 - (k + 0.5) * 2.0**-18
    log_u = torch.where(to_one < 0.5, torch.log1p(-to_one), torch.log((k + 0.5) * 2.0**-18))
    radius = torch.sqrt(-2 * log_u)
    angle = (((words >> 2) & 0xFFF).to(torch.float32) + 0.5) * (math.pi / 2 * 2.0**-12)
    pos, neg = radius * torch.cos(angle), radius * torch.sin(angle)
    return _sign(words, 0) * pos, _sign(words, 1) * neg


def _sign(words: Tensor, bit: int) -> Tensor:
    return 1 - 2 * ((words >> bit) & 1)


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
    """First block and number of blocks of four words; four elements share a block."""
    first = start // 4
    return first + (sample << 32), (start + count + 3) // 4 - first


def _part(words: Tensor, start: int, count: int) -> Tensor:
    return words[start % 4 :][:count]


@functools.cache
def _fill() -> Callable[..., None]:
    """The numba kernel, compiled on first use or loaded from numba's disk cache."""
    from rung.kernels.cpu import normal_loops

    return normal_loops.normals  # type: ignore[no-any-return]
