"""Decoding for a forward pass, with nothing but codes kept for the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.utils._pytree import tree_map_only

from rung.tensor.coded import CodedTensor

# Functions that use a weight as a factor: their float operand must not stay behind.
_PRODUCTS = {
    torch.matmul,
    torch.mm,
    torch.bmm,
    torch.addmm,
    torch.baddbmm,
    torch.einsum,
    torch.lstm,
    torch.gru,
    torch.rnn_tanh,
    torch.rnn_relu,
    Tensor.matmul,
    Tensor.mm,
    Tensor.bmm,
    Tensor.__matmul__,
    Tensor.__rmatmul__,
}
_BUILTIN_PRODUCTS = {
    torch.conv1d,
    torch.conv2d,
    torch.conv3d,
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
    torch.bilinear,
    torch._C._nn.linear,
    torch._C._nn.scaled_dot_product_attention,
}


def computes(func: Callable[..., Any]) -> bool:
    """Whether a function computes with weights (and so gets them decoded)."""
    in_functional = getattr(func, "__module__", None) == "torch.nn.functional"
    return in_functional or func in _PRODUCTS or func in _BUILTIN_PRODUCTS


class _Decode(torch.autograd.Function):
    """Codes to floats; the gradient of the floats is the gradient of the weight."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight: CodedTensor) -> Tensor:
        return weight.decode()

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        return grads[0]


def decode_and_call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function with decoded weights, saving codes where it would save floats."""
    # torch.func's transforms differentiate through the operators below instead.
    if torch._C._functorch.peek_interpreter_stack() is not None:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    sources: dict[int, CodedTensor] = {}
    decoded: dict[int, Tensor] = {}

    def decode(weight: CodedTensor) -> Tensor:
        if id(weight) not in decoded:
            floats = _Decode.apply(weight)  # type: ignore[no-untyped-call]
            decoded[id(weight)] = floats
            if not torch.compiler.is_compiling():
                sources[floats.untyped_storage().data_ptr()] = weight
        return decoded[id(weight)]

    args, kwargs = tree_map_only(CodedTensor, decode, (args, kwargs))
    # A compiled graph decides by itself what to save and what to decode again.
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return func(*args, **kwargs)
    with torch.autograd.graph.saved_tensors_hooks(_pack(sources), _unpack):
        return func(*args, **kwargs)


class _Recipe:
    """How to make a saved float tensor again: a view of a decoded weight."""

    def __init__(self, weight: CodedTensor, saved: Tensor) -> None:
        self.weight = weight
        self.version = self.current_version()
        self.view = (saved.size(), saved.stride(), saved.storage_offset())

    def current_version(self) -> tuple[int, int]:
        # An optimizer writes the codes; `weight.copy_()` is seen on the outside only.
        return self.weight._version, self.weight.codes._version


def _pack(sources: dict[int, CodedTensor]) -> Callable[[Tensor], Any]:
    # Hooks of a caller (activation checkpointing, offloading) still get what is not a weight: of
    # several pairs of hooks autograd asks the innermost only.
    outer = torch._C._autograd._top_saved_tensors_default_hooks(False)

    def pack(saved: Tensor) -> Any:
        weight = None
        if saved.layout == torch.strided and saved.numel():
            weight = sources.get(saved.untyped_storage().data_ptr())
        if weight is not None:
            return _Recipe(weight, saved)
        return saved if outer is None else _Outer(outer[1], outer[0](saved))

    return pack


class _Outer:
    """What an outer pair of hooks packed, with its way back."""

    def __init__(self, unpack: Callable[[Any], Tensor], packed: Any) -> None:
        self.unpack, self.packed = unpack, packed


def _unpack(packed: Any) -> Tensor:
    if isinstance(packed, _Outer):
        return packed.unpack(packed.packed)
    if not isinstance(packed, _Recipe):
        return packed  # type: ignore[no-any-return]
    if packed.current_version() != packed.version:
        raise RuntimeError(
            "A weight's codes were changed between the forward and the backward pass that uses "
            "them. Call backward() before the optimizer's step."
        )
    weight = packed.weight.detach()
    assert isinstance(weight, CodedTensor)
    return weight.decode().as_strided(*packed.view)
