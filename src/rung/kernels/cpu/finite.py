"""`finite` on the CPU."""

from typing import Any

import numpy as np
import torch
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
    found: list[Any] = []
    others = [grad for grad in grads if grad.numel() and not scanned(grad)]
    if others and not bool(reference(others)):
        return torch.tensor(False)
    for dtype, members in lists.by([g.dtype if scanned(g) else None for g in grads]).items():
        if dtype is not None:
            _look([grads[i] for i in members], _KINDS[dtype], found)
    return torch.tensor(not any(found))


def _look(grads: list[Tensor], kind: int, found: list[Any]) -> None:
    counts = [g.numel() for g in grads]
    addresses = np.array([g.data_ptr() for g in grads], np.int64)
    chunks = lists.chunks_of(counts, loops.CHUNK)
    sizes = np.array(counts, np.int64)

    def work(begin: int, end: int) -> None:
        found.append(loops.beyond(addresses, sizes, chunks, kind, begin, end))

    lists.run(work, chunks, loops.CHUNK)
