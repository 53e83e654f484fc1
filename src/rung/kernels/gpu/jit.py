"""How the GPU's kernels are compiled and launched."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl

# Annotation of a kernel's arguments and results that are no constants; its compiler looks at it.
Value = tl.tensor

# Launch options of kernels whose bits are a definition's: a fused a * b + c would be rounded once.
EXACT: Any = {"num_warps": 4, "enable_fp_fusion": False}


def jit(function: Any) -> Any:
    """`triton.jit`; with TRITON_INTERPRET=1 in the environment it runs on the CPU's tensors."""
    return triton.jit(function)


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Launch kernels on a device: Triton takes the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least a number, and 1."""
    return 1 << max(0, number - 1).bit_length()
