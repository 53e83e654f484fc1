"""What a data-parallel run agrees on when each rank draws noise of its own."""

import torch
from torch import Tensor, distributed


def several() -> bool:
    """Whether this process is one of several ranks."""
    ready = distributed.is_available() and distributed.is_initialized()
    return ready and distributed.get_world_size() > 1


def rank() -> int:
    """Rank of this process, 0 where nothing is distributed."""
    return distributed.get_rank() if several() else 0


def average_over_ranks(tensors: tuple[Tensor, ...]) -> None:
    """Replace tensors by their mean over all ranks, in place; a call that every rank makes."""
    for tensor in tensors:
        distributed.all_reduce(tensor)
        tensor.div_(distributed.get_world_size())


def on_any_rank(flags: list[bool], device: torch.device) -> list[bool]:
    """Which flags are set on any rank; a call that every rank makes with as many flags."""
    counts = torch.tensor(flags, dtype=torch.float32, device=device)
    distributed.all_reduce(counts)
    return (counts > 0).tolist()
