"""Memory for large results."""

import ctypes
import functools
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_LARGE = 2**22  # bytes
_PAGE = 2**12
_HUGE_PAGES = 14  # MADV_HUGEPAGE of Linux


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """`torch.empty` on the CPU, in pages of 2 MB where Linux has them and the tensor is large.

    The first touch of each page of 4 KB costs as much as copying it several times.
    """
    out = torch.empty(shape, dtype=dtype, device="cpu")
    size = out.nbytes
    advise = _advise() if size >= _LARGE else None
    if advise is not None:
        start = out.data_ptr() + -out.data_ptr() % _PAGE
        advise(start, (out.data_ptr() + size - start) // _PAGE * _PAGE, _HUGE_PAGES)
    return out


@functools.cache
def _advise() -> Callable[[int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return advise
