"""Lists of tensors as one launch takes them: addresses and chunks in a table on the device.

A program looks up whose chunk it has and where that tensor lies. Tables are kept, so that a step
whose tensors stayed where they were copies nothing but its numbers. Copies are from pinned memory
and never waited for. While a CUDA graph is captured nothing kept is used, since it might be thrown
away before the graph is, and the memory of the copies stays for good: replays read it again.
"""

import functools
from collections.abc import Hashable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Elements of a program; sixteen bytes are the widest that a thread reads at once.
CHUNK = 1024
_ALIGNED = 16

_captured: list[Tensor] = []


class Table(NamedTuple):
    """What a launch over a list of tensors reads.

    Attributes:
        places: int64 (tensors, 2 + addresses): first chunk, elements, addresses.
        owners: int32 (chunks,): the row of each chunk.
        chunks: Number of programs.
    """

    places: Tensor
    owners: Tensor
    chunks: int


def send(host: Tensor, device: torch.device) -> Tensor:
    """A copy on a device, without waiting for it; on the CPU the tensor itself."""
    if device.type != "cuda" or host.device.type == "cuda":
        return host.to(device)
    pinned = host.pin_memory()
    if _capturing():
        _captured.append(pinned)
    return pinned.to(device, non_blocking=True)


def table_of(
    counts: Sequence[int], addresses: Sequence[Sequence[int]], device: torch.device,
    chunk: int = CHUNK,
) -> Table:  # fmt: skip
    """The table of tensors with these elements, and rows of addresses."""
    chunks = [-(-count // chunk) for count in counts]
    firsts = list(accumulate(chunks, initial=0))
    rows = tuple(
        (first, count, *row)
        for first, count, row in zip(firsts[:-1], counts, addresses, strict=True)
    )
    if _capturing():
        return Table(_rows(rows, device), _owners(tuple(chunks), device), firsts[-1])
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    kept = _kept_rows(rows, device, stream), _kept_owners(tuple(chunks), device, stream)
    return Table(*kept, firsts[-1])


def _capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _rows(rows: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    return send(torch.tensor(rows, dtype=torch.int64, device="cpu"), device)


def _owners(chunks: tuple[int, ...], device: torch.device) -> Tensor:
    repeats = torch.tensor(chunks, dtype=torch.int64, device="cpu")
    rows = torch.arange(len(chunks), dtype=torch.int32, device="cpu")
    return send(rows.repeat_interleave(repeats), device)


# A stream of its own each: a copy that was begun on one is not done for another.
@functools.lru_cache(64)
def _kept_rows(rows: tuple[tuple[int, ...], ...], device: torch.device, stream: int) -> Tensor:
    return _rows(rows, device)


@functools.lru_cache(64)
def _kept_owners(chunks: tuple[int, ...], device: torch.device, stream: int) -> Tensor:
    return _owners(chunks, device)


def columns(count: int, device: torch.device, *values: Tensor) -> Tensor:
    """float32 (count, columns) on a device of columns of one number, or of `count`.

    They may be on the host or on the device; those on the host are sent in one copy.
    """
    if all(value.device.type == "cpu" for value in values):
        return send(_stack(count, values), device)
    return _stack(count, [send(value.to(torch.float32), device) for value in values])


def _stack(count: int, values: Sequence[Tensor]) -> Tensor:
    return torch.stack([value.to(torch.float32).expand(count) for value in values], dim=1)


def dense(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same in flat order, float32 or bfloat16: copies of those that are not."""
    wide = (torch.float32, torch.bfloat16)
    return [(t if t.dtype in wide else t.float()).contiguous() for t in tensors]


def even(*tensors: Tensor) -> bool:
    """Whether whole vectors of sixteen bytes can be read: addresses and sizes allow it."""
    return all(t.data_ptr() % _ALIGNED == 0 and t.numel() % _ALIGNED == 0 for t in tensors)


def by(items: Sequence[Hashable]) -> dict[Any, list[int]]:
    """Indices of equal items."""
    groups: dict[Any, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item, []).append(index)
    return groups
