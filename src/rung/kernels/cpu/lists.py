"""Lists of tensors as the loops take them: addresses, chunks, threads."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rung.kernels.cpu import threads

Integers = NDArray[np.int64]


def chunks_of(counts: Sequence[int], length: int) -> Integers:
    """Number of chunks before each tensor, and in all; int64 of one more item than `counts`."""
    chunks = np.zeros(len(counts) + 1, np.int64)
    np.cumsum([-(-count // length) for count in counts], out=chunks[1:])
    return chunks


def run(work: Callable[[int, int], None], chunks: Integers, length: int) -> None:
    """Call work(begin, end) for ranges of chunks, on as many threads as torch may use."""
    total = int(chunks[-1])
    if total:
        threads.run(work, threads.split(total, grain=max(1, threads.GRAIN // length)))


def dense(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same in flat order, float32 or bfloat16: copies of those that are not."""
    wide = (torch.float32, torch.bfloat16)
    return [(t if t.dtype in wide else t.float()).contiguous() for t in tensors]


def by(tensors: Sequence[Any]) -> dict[Any, list[int]]:
    """Indices of equal items."""
    groups: dict[Any, list[int]] = {}
    for index, item in enumerate(tensors):
        groups.setdefault(item, []).append(index)
    return groups
