"""Whether tensors are what loops and kernels may trust: those see addresses, not shapes."""

from collections.abc import Sequence

from torch import Tensor


def alike(*lists: Sequence[Tensor]) -> bool:
    """Whether the tensors of a place have one shape, all are on one device, and none is lazy.

    Args:
        lists: Lists of equal length.
    """
    if len({len(tensors) for tensors in lists}) > 1:
        return False
    device = next((t.device for tensors in lists for t in tensors), None)
    for row in zip(*lists, strict=True):
        shape = row[0].shape
        for tensor in row:
            # A lazily negated view has not written its signs to memory.
            if tensor.shape != shape or tensor.device != device or tensor.is_neg():
                return False
    return True


def on(device: object, *lists: Sequence[Tensor]) -> bool:
    """Whether all tensors are on a device."""
    return all(tensor.device == device for tensors in lists for tensor in tensors)
