"""What a data-parallel run agrees on when each rank draws noise of its own."""

import torch
from torch import Tensor, distributed


def rank() -> int:
    """Rank of this process, 0 where nothing is distributed."""
    return distributed.get_rank() if _several() else 0


def average_over_ranks(tensors: tuple[Tensor, ...]) -> None:
    """Replace tensors by their mean over all ranks, in place; a call that every rank makes."""
    if not _several():
        return
    for tensor in tensors:
        distributed.all_reduce(tensor)
        tensor.div_(distributed.get_world_size())


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether a flag is set on any rank."""
    if not _several():
        return flag
    count = torch.tensor(float(flag), device=device)
    distributed.all_reduce(count)
    return bool(count > 0)


def _several() -> bool:
    ready = distributed.is_available() and distributed.is_initialized()
    return ready and distributed.get_world_size() > 1
