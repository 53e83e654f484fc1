"""Whether tensors are what loops and kernels may trust: those see addresses, not shapes.

Every look at a tensor is a call of C from Python, 0.1 microseconds: lists are looked at by `map`,
which is half of what a loop in Python takes.
"""

from collections.abc import Sequence
from operator import attrgetter

import torch
from torch import Tensor

_is_cpu = attrgetter("is_cpu")
_dtype = attrgetter("dtype")
_shape = attrgetter("shape")


def alike(*lists: Sequence[Tensor]) -> bool:
    """Whether the tensors of a place have one shape, all are on one device, and none is lazy.

    Args:
        lists: Lists of equal length.
    """
    shapes = list(map(_shape, lists[0]))
    if any(list(map(_shape, tensors)) != shapes for tensors in lists[1:]):
        return False
    # A lazily negated view has not written its signs to memory.
    if any(any(map(Tensor.is_neg, tensors)) for tensors in lists):
        return False
    device = next((t.device for tensors in lists for t in tensors), None)
    return device is None or on(device, *lists)


def on(device: torch.device, *lists: Sequence[Tensor]) -> bool:
    """Whether all tensors are on a device."""
    if device.type == "cpu":
        return all(all(map(_is_cpu, tensors)) for tensors in lists)
    return all(tensor.device == device for tensors in lists for tensor in tensors)


def dense_floats(*lists: Sequence[Tensor]) -> bool:
    """Whether all are contiguous, on the CPU, and of one dtype, float32 or float64.

    The tensors of a place have as many elements, and no lazy signs.

    Args:
        lists: Lists of equal length.
    """
    counts = list(map(Tensor.numel, lists[0]))
    dtypes: set[torch.dtype] = set()
    for tensors in lists:
        dtypes.update(map(_dtype, tensors))
        dense = all(map(Tensor.is_contiguous, tensors)) and all(map(_is_cpu, tensors))
        if not dense or list(map(Tensor.numel, tensors)) != counts:
            return False
        if any(map(Tensor.is_neg, tensors)):
            return False
    return dtypes in ({torch.float32}, {torch.float64})


def host_scalars(tensors: Sequence[Tensor]) -> bool:
    """Whether all are 0-d float32 on the CPU."""
    return (
        set(map(_dtype, tensors)) == {torch.float32}
        and not any(map(Tensor.dim, tensors))
        and all(map(_is_cpu, tensors))
    )
