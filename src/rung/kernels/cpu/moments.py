"""What the adapters of the Madams share: storages of moments, and the call of their loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rung.kernels.cpu import lists
from rung.kernels.cpu.chunk_loops import CHUNK
from rung.kernels.moment import log8_tables, next_log8_scale

# Numbers whose types tell the loops how a dtype is stored.
LIKES = {
    torch.float32: np.float32(0),
    torch.bfloat16: np.uint16(0),
    torch.uint8: np.uint8(0),
    torch.int8: np.int8(0),
    torch.int16: np.uint16(0),
    None: None,
}
_TABLES = np.array(log8_tables(), np.float32)
_TABLES[3] = np.array(log8_tables()[3], np.int32).view(np.float32)


def rescale(
    stored: list[Tensor], scales: list[Tensor], grads: list[Tensor], numbers: Tensor
) -> tuple[Any, Any, list[Tensor]]:
    """1 / new scale and old scale of each tensor of log codes, and the new scales to write."""
    if not scales:
        return 1, 1, []
    old = torch.stack(scales)
    filled = [index for index, codes in enumerate(stored) if codes.numel()]
    new = old.clone()
    if filled:  # in a few operations for all tensors, of which small ones are many
        ends = torch.stack([end for i in filled for end in torch.aminmax(grads[i])])
        largest = ends.to(torch.float32).reshape(-1, 2).abs().amax(1)
        codes = torch.stack([stored[i].amax() for i in filled])
        beta, rest = numbers[0].to(torch.float32), (1 - numbers[0]).to(torch.float32)
        new[filled] = next_log8_scale(codes, old[filled], largest, beta, rest)
    return (1 / new.double()).numpy(), old.numpy(), list(new.unbind())


def run(
    step: Callable[..., None],
    places: NDArray[np.int64],
    numbers: NDArray[np.float32],
    count: int,
    dtypes: tuple[torch.dtype | None, ...],
    modes: tuple[int | None, ...],
    scratch: int,
) -> None:
    """Run a step's loop over all chunks of its tensors; `count` is the column of elements."""
    chunks = lists.chunks_of(places[:, count], CHUNK)
    likes = tuple(LIKES[dtype] for dtype in dtypes)

    def work(begin: int, end: int) -> None:
        room = np.empty(scratch + 64, np.uint8)
        address = room.ctypes.data
        address += -address % 64
        tables = _TABLES.ctypes.data
        step(places, numbers, chunks, likes, modes, tables, address, begin, end)

    lists.run(work, chunks, CHUNK)
