"""The step counts of a list of parameters, each a 0-d tensor as in torch's own optimizers."""

import torch
from torch import Tensor

from rung.kernels import fits
from rung.kernels.dispatch import Operation


def reference(steps: list[Tensor]) -> Tensor:
    """Add one to each, in place; their new values, shape (n,), in the first one's dtype.

    Args:
        steps: 0-d float32 tensors on one device; at least one.
    """
    torch._foreach_add_(steps, 1)
    return torch.stack(steps)


advance = Operation(
    "advance_steps",
    "(Tensor(a!)[] steps) -> Tensor",
    reference,
    cpu="rung.kernels.cpu.step_counts:advance",
    serves=fits.host_scalars,
    fake=lambda steps: steps[0].new_empty(len(steps)),
)
