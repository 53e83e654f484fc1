"""`finite` on the CPU."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rung.kernels.cpu import finite_loops as loops
from rung.kernels.cpu import lists
from rung.kernels.finite import reference, scanned

_KINDS = {
    torch.float32: loops.FLOAT32,
    torch.bfloat16: loops.BFLOAT16,
    torch.float16: loops.FLOAT16,
}


def all_finite(grads: list[Tensor]) -> Tensor:
    """`finite.reference`."""
    plain = all(map(Tensor.is_contiguous, grads)) and not any(map(Tensor.is_neg, grads))
    kinds = set(lists.dtypes(grads))
    if plain and len(kinds) == 1 and kinds <= _KINDS.keys():
        return torch.tensor(_all_finite(grads, kinds.pop()))
    others = [grad for grad in grads if grad.numel() and not scanned(grad)]
    if others and not bool(reference(others)):
        return torch.tensor(False)
    groups = lists.by([g.dtype if scanned(g) else None for g in grads])
    parts = [(dtype, [grads[i] for i in own]) for dtype, own in groups.items() if dtype is not None]
    return torch.tensor(all(_all_finite(part, dtype) for dtype, part in parts))


def _all_finite(grads: list[Tensor], dtype: torch.dtype) -> bool:
    """Of contiguous gradients of one dtype."""
    kind, places, sizes = _KINDS[dtype], lists.addresses(grads), lists.sizes(grads)
    chunks, found = lists.chunks_of(sizes, loops.CHUNK), list[Any]()

    def work(begin: int, end: int) -> None:
        found.append(loops.beyond(places, sizes, chunks, kind, begin, end))

    lists.run(work, chunks, loops.CHUNK)
    return not any(found)


def largest(tensors: list[Tensor]) -> NDArray[np.int32]:
    """Bits of the largest magnitude of each tensor, NaN above all numbers.

    Args:
        tensors: Contiguous, of elements, all float32, all bfloat16, or all of uint8 codes.
    """
    kind = loops.CODES if tensors[0].dtype == torch.uint8 else _KINDS[tensors[0].dtype]
    places, sizes = lists.addresses(tensors), lists.sizes(tensors)
    chunks = lists.chunks_of(sizes, loops.CHUNK)
    found = np.empty(int(chunks[-1]), np.int32)

    def work(begin: int, end: int) -> None:
        loops.largest(places, sizes, chunks, kind, found, begin, end)

    lists.run(work, chunks, loops.CHUNK)
    return np.maximum.reduceat(found, chunks[:-1])
