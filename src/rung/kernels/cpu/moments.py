"""What the adapters of the Madams share: storages of moments, and the call of their loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rung.kernels.cpu import finite, lists
from rung.kernels.cpu.chunk_loops import CHUNK
from rung.kernels.moment import log8_tables

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
    old = torch.stack(scales).numpy()
    filled = [index for index, codes in enumerate(stored) if codes.numel()]
    new = old.copy()
    if filled:  # in a few operations for all tensors, of which small ones are many
        largest = _largest_gradients([grads[i] for i in filled])
        codes = finite.largest([stored[i] for i in filled])
        new[filled] = next_scales(codes, old[filled], largest, float(numbers[0]))
    return 1 / new.astype(np.float64), old, list(torch.from_numpy(new).unbind())


def _largest_gradients(grads: list[Tensor]) -> NDArray[np.float32]:
    """Of each of contiguous float32 and bfloat16 with elements."""
    bits = np.empty(len(grads), np.int32)
    for dtype, members in lists.by(lists.dtypes(grads)).items():
        found = finite.largest([grads[i] for i in members])
        bits[members] = found << 16 if dtype == torch.bfloat16 else found
    return bits.view(np.float32)


def next_scales(
    codes: NDArray[np.int32], old: NDArray[np.float32], largest: NDArray[np.float32], beta: float
) -> NDArray[np.float32]:
    """`moment.next_log8_scale` in the same steps of float32; numpy calls cost less than torch's."""
    kept, rest = np.float32(beta), np.float32(1 - beta)
    above = codes + 1
    power = _TABLES[0, above & 7].view(np.int32) + (((above >> 3) - 32) << 23)
    with np.errstate(over="ignore", invalid="ignore"):  # of gradients that nobody has looked at
        moment = np.where(codes > 0, power.view(np.float32) * old, np.float32(0))
        most = kept * moment + rest * (largest * largest)
        exponent = ((most.view(np.int32) + np.int32(0x7FFFFF)) >> 23).clip(1, 254)
        return np.where(most > 0, (exponent << 23).view(np.float32), np.float32(1))


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
