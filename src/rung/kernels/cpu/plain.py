"""Which tensors the CPU's loops may read."""

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.uint8, torch.int16)
GIVEN, LARGEST, POWER_OF_TWO, READY = range(4)
"""Where the scales of groups come from, see `groups.round_groups`."""


def usable(*tensors: Tensor) -> bool:
    """Whether these are plain tensors of codes or float32 on the CPU, outside any tracing."""
    # Tensors of torch.func's transforms call themselves plain and have no memory to read.
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return all(type(t) is Tensor and t.device.type == "cpu" and t.dtype in _DTYPES for t in tensors)
