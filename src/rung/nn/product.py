"""A quantized product: formats on its operands, formats on the gradients that come back.

y = f(a', w')    a' = Q_A(a)   w' = Q_W(w), its gradient Q_G    y's gradient Q_E
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rung.nn.quantizer import Quantizers
from rung.nn.scales import Channels
from rung.nn.straight_through import remaker, straight_through
from rung.tensor import CodedTensor
from rung.tensor.compute import Source, Sources, call_saving_codes


class Operand(NamedTuple):
    """One factor of a product.

    Attributes:
        tensor: The factor.
        axis: Dimension (or several) of its channels: outputs of a weight, features of an
            activation.
        weight: Whether Q_W and Q_G are for it; otherwise Q_A.
        block_dim: Dimension that the product sums over: blocks of one scale run along it, so that
            a sum takes in whole blocks. Of several, the innermost.
    """

    tensor: Tensor
    axis: Channels
    weight: bool
    block_dim: int = -1


def is_weight(tensor: Tensor) -> bool:
    """Whether a tensor is a parameter, lives in codes, or is a view of such a tensor.

    A plain tensor in a parameter's place (`torch.func.functional_call`) counts as one. What is
    computed from parameters does not: it may be anything.
    """
    known = nn.Parameter | CodedTensor
    if isinstance(tensor, known) or isinstance(tensor._base, known):
        return True
    if torch.compiler.is_compiling():
        return False
    stand_ins = _stand_ins()
    return id(tensor) in stand_ins or (tensor._base is not None and id(tensor._base) in stand_ins)


class _Scope(threading.local):
    """The module whose forward pass is intercepted, and what stands for its parameters."""

    module: nn.Module | None = None
    stand_ins: frozenset[int] | None = None


_scope = _Scope()


@contextmanager
def parameters_of(module: nn.Module) -> Iterator[None]:
    """Take the tensors in the places of a module's parameters for weights, whatever they are."""
    if torch.compiler.is_compiling():
        yield
        return
    outer = _scope.module, _scope.stand_ins
    _scope.module, _scope.stand_ins = module, None
    try:
        yield
    finally:
        _scope.module, _scope.stand_ins = outer


def _stand_ins() -> frozenset[int]:
    if _scope.stand_ins is None:
        modules = () if _scope.module is None else _scope.module.modules()
        _scope.stand_ins = frozenset(
            id(tensor)
            for module in modules
            for tensor in module._parameters.values()
            if not isinstance(tensor, nn.Parameter | None)
        )
    return _scope.stand_ins


def product(
    compute: Callable[..., Tensor],
    operands: tuple[Operand, ...],
    quantizers: Quantizers,
    error_axis: int = -1,
) -> Tensor:
    """One product of quantized operands.

    Args:
        compute: Takes the operands' tensors in order; a bias and everything else that isn't a
            factor is in its closure.
        operands: The factors. Those that aren't floating-point (integer matrices) and complex ones
            have no format, and then the product is computed as it is.
        quantizers: The four.
        error_axis: Channels of the result, for an error with a scale per channel; blocks run along
            them. Where they are a weight's outputs, the product with the weight sums over them in
            the backward pass; `einsum` and `tensordot` take the result's last dimension, whatever
            it is.
    """
    if not all(operand.tensor.is_floating_point() for operand in operands):
        quantizers = Quantizers()
    with unintercepted():
        sources = Sources()
        ready = tuple(_quantized(operand, quantizers, sources) for operand in operands)
        result = call_saving_codes(compute, ready, {}, sources)
        return straight_through(result, None, quantizers.error, error_axis, error_axis)


def _quantized(operand: Operand, quantizers: Quantizers, sources: Sources) -> Tensor:
    tensor, axis, weight, block_dim = operand
    if not weight:
        return straight_through(tensor, quantizers.activation, None, axis, block_dim)
    forward = quantizers.weight
    source = None if forward is None else forward.draw()
    rounded = straight_through(
        tensor, forward, quantizers.gradient, axis, block_dim, source=source, product_grad=True
    )
    if isinstance(tensor, CodedTensor):
        sources.add(rounded, Source(tensor, remaker(tensor, forward, axis, block_dim, source)))
    return rounded


class PausableMode(TorchFunctionMode):
    """A mode that intercepts products, except those that a quantized product is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False


def active_mode() -> PausableMode | None:
    """The innermost mode of this thread that intercepts products."""
    for index in reversed(range(torch._C._len_torch_function_stack())):
        mode = torch._C._get_function_stack_at(index)
        if isinstance(mode, PausableMode):
            return mode
    return None


@contextmanager
def unintercepted() -> Iterator[None]:
    """Let products through that are already quantized."""
    mode = active_mode()
    if mode is None or mode.paused:
        yield
        return
    mode.paused = True
    try:
        yield
    finally:
        mode.paused = False
