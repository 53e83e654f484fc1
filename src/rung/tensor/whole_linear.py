"""`F.linear` with a weight decoded as a whole: one node of the graph, which keeps codes alone.

`compute` does as much for any function, by a node for the decoding, a second one for the product
and hooks on what that saves; in a small layer these take longer than the product.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rung.tensor.coded import CodedTensor
from rung.tensor.linear import changed_codes, version_of

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def serves(input: Any, weight: Any, bias: Any = None) -> bool:
    """Whether `linear` takes these arguments of `F.linear`; the others are for torch."""
    x = input
    if not isinstance(weight, CodedTensor) or not _plain(x) or not (bias is None or _plain(bias)):
        return False
    if torch.compiler.is_compiling() or torch.autograd.forward_ad._current_level >= 0:
        return False
    if weight.ndim != 2 or x.ndim < 2 or x.shape[-1] != weight.shape[1]:
        return False
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype not in _FLOATS):
        return False
    if _autocasts(x):
        return x.dtype in _FLOATS and weight.dtype in _FLOATS
    return x.dtype == weight.dtype and (bias is None or bias.dtype == x.dtype)


def _plain(tensor: Any) -> bool:
    return type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided


def _autocasts(x: Tensor) -> bool:
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def linear(input: Tensor, weight: CodedTensor, bias: Tensor | None = None) -> Tensor:
    """The product of x and the transposed weight, plus a bias; the weight's gradient is dense."""
    x = input
    if _autocasts(x):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, bias = x.to(dtype), None if bias is None else bias.to(dtype)
    operands = (x, weight) if bias is None else (x, weight, bias)
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in operands):
        return F.linear(x, weight.decode().to(x.dtype), bias)
    return _Linear.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


class _Linear(torch.autograd.Function):
    """Keeps x and codes; the weight is decoded once for each direction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: CodedTensor, bias: Tensor | None) -> Tensor:
        ctx.weight, ctx.version = weight, version_of(weight)
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(x)
        return F.linear(x, weight.decode().to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), weight = grads, ctx.weight
        # A coded weight's own attributes, without a detour through its class.
        with torch._C.DisableTorchFunctionSubclass():
            dtype, changed = weight.dtype, version_of(weight) != ctx.version
        if changed:
            raise changed_codes()
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            # A gradient of this gradient needs the weight itself.
            factor = weight if torch.is_grad_enabled() else weight.decode()
            of_x = torch.matmul(grad, factor.to(grad.dtype))
        if ctx.needs_input_grad[1]:
            (x,) = ctx.saved_tensors
            rows = grad.reshape(-1, grad.shape[-1])
            of_weight = (rows.t() @ x.reshape(-1, x.shape[-1])).to(dtype)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum(tuple(range(grad.ndim - 1)))
        return of_x, of_weight, of_bias
