"""Whether a step's gradients are all finite, before anything is written."""

import torch
from torch import Tensor

from rung.kernels import fits
from rung.kernels.dispatch import Operation

# Squares of larger gradients overflow a float32 or bfloat16 moment, which would stay infinite.
LARGEST = 2.0**63


def reference(grads: list[Tensor]) -> Tensor:
    """0-d bool on the first gradient's device: no NaN, no infinity, no magnitude above 2^63.

    Args:
        grads: Floating-point tensors of any shapes; at least one with elements.
    """
    # NaN fails the comparison too.
    filled = [grad for grad in grads if grad.numel()]
    if all(grad.device.type == "cpu" for grad in filled):
        # Twelve times as fast there as the infinity norm, which other devices have in one launch.
        ends = torch.stack([end.double() for grad in filled for end in torch.aminmax(grad)])
        return ends.abs().amax() <= LARGEST
    return torch.nn.utils.get_total_norm(filled, norm_type=float("inf")) <= LARGEST


def scanned(grad: Tensor) -> bool:
    """Whether loops and kernels read such a tensor's memory."""
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    return grad.dtype in dtypes and grad.is_contiguous() and not grad.is_neg()


def _serves(grads: list[Tensor]) -> bool:
    device = grads[0].device
    # On the CPU single tensors can go another way.
    read = device.type == "cpu" or all(map(scanned, grads))
    return read and fits.on(device, grads)


all_finite = Operation(
    "all_finite",
    "(Tensor[] grads) -> Tensor",
    reference,
    cpu="rung.kernels.cpu.finite:all_finite",
    gpu="rung.kernels.gpu.finite:all_finite",
    serves=_serves,
    fake=lambda grads: grads[0].new_empty((), dtype=torch.bool),
)
