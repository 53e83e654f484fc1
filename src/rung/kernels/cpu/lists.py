"""Lists of tensors as the loops take them: addresses, chunks, threads.

Lists are walked by `map`: a loop in Python takes as long as the call that it makes.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rung.kernels.cpu import threads
from rung.kernels.cpu.arrays import array_at
from rung.kernels.cpu.jit import jit

Integers = NDArray[np.int64]
_WIDE = (torch.float32, torch.bfloat16)
_dtype = attrgetter("dtype")


def addresses(tensors: Sequence[Tensor]) -> Integers:
    """Of the tensors' first elements; 0 for tensors without any."""
    return np.fromiter(map(Tensor.data_ptr, tensors), np.int64, len(tensors))


def sizes(tensors: Sequence[Tensor]) -> Integers:
    """Numbers of elements."""
    return np.fromiter(map(Tensor.numel, tensors), np.int64, len(tensors))


def dtypes(tensors: Sequence[Tensor]) -> list[torch.dtype]:
    """Of each tensor."""
    return list(map(_dtype, tensors))


def integers(tensors: Sequence[Tensor]) -> Integers:
    """Values of tensors of one integer each."""
    if set(map(_dtype, tensors)) - {torch.int64}:
        return np.array([int(tensor) for tensor in tensors], np.int64)
    values = np.empty(len(tensors), np.int64)
    _integers(addresses(tensors), values)
    return values


@jit
def _integers(places: Any, values: Any) -> None:
    for i in range(places.size):
        values[i] = array_at(places[i], np.int64(0), 1)[0]


def chunks_of(counts: Sequence[int] | Integers, length: int) -> Integers:
    """Number of chunks before each tensor, and in all; int64 of one more item than `counts`."""
    chunks = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(-(-np.asarray(counts, np.int64) // length), out=chunks[1:])
    return chunks


def run(work: Callable[[int, int], None], chunks: Integers, length: int) -> None:
    """Call work(begin, end) for ranges of chunks, on as many threads as torch may use."""
    total = int(chunks[-1])
    if total:
        threads.run(work, threads.split(total, grain=max(1, threads.GRAIN // length)))


def dense(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same in flat order, float32 or bfloat16: copies of those that are not."""
    if set(map(_dtype, tensors)) <= set(_WIDE) and all(map(Tensor.is_contiguous, tensors)):
        return list(tensors)
    return [(t if t.dtype in _WIDE else t.float()).contiguous() for t in tensors]


def by(tensors: Sequence[Any]) -> dict[Any, list[int]]:
    """Indices of equal items."""
    if len(set(tensors)) == 1:
        return {tensors[0]: list(range(len(tensors)))}
    groups: dict[Any, list[int]] = {}
    for index, item in enumerate(tensors):
        groups.setdefault(item, []).append(index)
    return groups
