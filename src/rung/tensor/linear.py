"""`F.linear` with a weight in codes, decoded inside the product where that is the faster way."""

from typing import Any

import torch
from torch import Tensor

from rung.formats import LNS, Ladder
from rung.kernels import linear as kernel
from rung.tensor.coded import CodedTensor

# Weights under this many codes are decoded as a whole: the call would cost more than the product.
SMALLEST = 2**14

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def serves(input: Any, weight: Any, bias: Any = None) -> bool:
    """Whether `linear` takes these arguments of `F.linear`; the others are for torch."""
    x = input
    if not isinstance(weight, CodedTensor) or not isinstance(x, Tensor):
        return False
    if isinstance(x, CodedTensor) or x.layout != torch.strided or not _fits(bias, x, weight):
        return False
    if weight.ndim != 2 or x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        return False
    rows = x.numel() // max(1, x.shape[-1])
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in _DTYPES
        and weight.numel() >= SMALLEST
        and 0 < rows <= kernel.LARGEST_BATCH
        and isinstance(weight.format, Ladder | LNS)  # the others are decoded as a whole
        and kernel.fits(weight.codes, weight.scale)
        and not torch.is_autocast_enabled("cpu")
        and not torch.autograd.forward_ad._current_level >= 0
    )


def linear(input: Tensor, weight: CodedTensor, bias: Tensor | None = None) -> Tensor:
    """The product of x and the transposed weight, plus a bias; the weight's gradient is dense."""
    x = input
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        y: Tensor = _Linear.apply(x, weight)  # type: ignore[no-untyped-call]
    else:
        y = kernel.linear_codes(x.detach(), *_parts(weight))
    return y if bias is None else y + bias


def _fits(bias: Any, x: Tensor, weight: CodedTensor) -> bool:
    """Whether a bias can simply be added; torch has the errors for what can't."""
    if bias is None:
        return True
    plain = isinstance(bias, Tensor) and not isinstance(bias, CodedTensor)
    return plain and bias.shape == weight.shape[:1] and (bias.dtype, bias.device) == (
        x.dtype, x.device
    )  # fmt: skip


def _parts(weight: CodedTensor) -> tuple[Any, ...]:
    fmt = weight.format
    assert isinstance(fmt, Ladder | LNS), "`serves` refuses the others"
    if isinstance(fmt, LNS):
        code = kernel.Code(fmt.bits, fmt.base_factor, 0.0)
    else:
        code = kernel.Code(fmt.bits, 0, fmt.base_precision)
    return weight.codes, weight.scale, weight.signs, weight.key, code


class _Linear(torch.autograd.Function):
    """Keeps x and codes; no float copy of the weight is made in either direction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: CodedTensor) -> Tensor:
        ctx.weight = weight
        ctx.version = version_of(weight)
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(x)
        return kernel.linear_codes(x, *_parts(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (grad,), weight = grads, ctx.weight
        if version_of(weight) != ctx.version:
            raise changed_codes()
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            if torch.is_grad_enabled():  # for a gradient of this gradient
                of_x = torch.matmul(grad, weight)
            else:
                of_x = kernel.linear_codes_grad(grad, *_parts(weight))
        if ctx.needs_input_grad[1]:
            (x,) = ctx.saved_tensors
            rows = grad.reshape(-1, grad.shape[-1])
            of_weight = rows.t() @ x.reshape(-1, x.shape[-1])
        return of_x, of_weight


def version_of(weight: CodedTensor) -> tuple[int, int]:
    """Numbers that change with the codes: a backward pass must find those of its forward pass."""
    # An optimizer writes the codes; `weight.copy_()` is seen on the outside only.
    if torch.compiler.is_compiling():  # a compiled graph orders its reads by itself
        return 0, 0
    return weight._version, weight.codes._version


def changed_codes() -> RuntimeError:
    """The error of a backward pass through codes that are no longer those of the forward pass."""
    return RuntimeError(
        "A weight's codes were changed between the forward and the backward pass that uses "
        "them. Call backward() before the optimizer's step."
    )
