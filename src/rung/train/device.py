"""Process-wide settings of a run, put back when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def find_device(name: str) -> torch.device:
    """The torch device of a name.

    Raises:
        ValueError: No such device, or this PyTorch can't use it.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"`device` must be one that this PyTorch can use; got {name!r} "
            f"({str(error).splitlines()[0]}). Use 'cpu'."
        ) from error
    return device


@contextmanager
def own_process_state(device: torch.device, threads: int | None) -> Iterator[None]:
    """Within this block the run may seed torch's global generators and use so many threads."""
    before = torch.get_num_threads()
    cuda = []
    if device.type == "cuda":
        cuda = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(cuda):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(before)
