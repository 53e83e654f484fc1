"""Decoding for a forward pass, with nothing but codes kept for the backward pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.utils._pytree import tree_map_only

from rung.tensor import linear, lookup, whole_linear
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

    @staticmethod
    def jvp(ctx: FunctionCtx, *tangents: Tensor) -> Tensor:
        return tangents[0].clone()


@dataclass(frozen=True)
class Source:
    """Where a float operand came from.

    Attributes:
        weight: The codes that it was made of.
        remake: Makes an equal tensor from them, without a gradient.
    """

    weight: CodedTensor
    remake: Callable[[], Tensor]


class Sources:
    """Float operands of one call that need not be kept, because codes can make them again."""

    def __init__(self) -> None:
        self.by_storage: dict[int, Source] = {}

    def add(self, floats: Tensor, source: Source) -> None:
        """Note an operand; any view of it then counts as noted."""
        # A compiled graph decides by itself what to save and what to decode again; tensors of
        # torch.func's transforms have no memory to tell them by.
        transformed = torch._C._functorch.peek_interpreter_stack() is not None
        if not torch.compiler.is_compiling() and not transformed:
            self.by_storage[floats.untyped_storage().data_ptr()] = source


def call_saving_codes(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], sources: Sources
) -> Any:
    """Call a function; where autograd would save an operand of `sources`, it saves its codes."""
    if not sources.by_storage or not torch.is_grad_enabled():
        return func(*args, **kwargs)
    with torch.autograd.graph.saved_tensors_hooks(_pack(sources.by_storage), _unpack):
        return func(*args, **kwargs)


def decode_and_call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function with decoded weights, saving codes where it would save floats.

    Linear layers and look-ups in tables have shorter ways: `linear`, `whole_linear`, `lookup`.
    """
    # torch.func's transforms differentiate through the operators below instead.
    if torch._C._functorch.peek_interpreter_stack() is not None:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    if func is torch._C._nn.linear:
        # A coded weight's own attributes, without a detour through its class.
        with torch._C.DisableTorchFunctionSubclass():
            if linear.serves(*args, **kwargs):
                return linear.linear(*args, **kwargs)
            if whole_linear.serves(*args, **kwargs):
                return whole_linear.linear(*args, **kwargs)
    if func is F.embedding:
        with torch._C.DisableTorchFunctionSubclass():
            if lookup.serves(*args, **kwargs):
                return lookup.embedding(*args, **kwargs)
    sources = Sources()
    decoded: dict[int, Tensor] = {}

    def decode(weight: CodedTensor) -> Tensor:
        if id(weight) not in decoded:
            floats = _Decode.apply(weight)  # type: ignore[no-untyped-call]
            decoded[id(weight)] = floats
            sources.add(floats, Source(weight, lambda: _codes_of(weight).decode()))
        return decoded[id(weight)]

    args, kwargs = tree_map_only(CodedTensor, decode, (args, kwargs))
    return call_saving_codes(func, args, kwargs, sources)


def _codes_of(weight: CodedTensor) -> CodedTensor:
    detached = weight.detach()
    assert isinstance(detached, CodedTensor)
    return detached


class _Recipe:
    """How to make a saved float tensor again: a view of what codes were made into."""

    def __init__(self, source: Source, saved: Tensor) -> None:
        self.weight, self.remake = source.weight, source.remake
        self.version = self.current_version()
        self.view = (saved.size(), saved.stride(), saved.storage_offset())

    def current_version(self) -> tuple[int, int]:
        # An optimizer writes the codes; `weight.copy_()` is seen on the outside only.
        return self.weight._version, self.weight.codes._version


def _pack(sources: dict[int, Source]) -> Callable[[Tensor], Any]:
    # Hooks of a caller (activation checkpointing, offloading) still get what is not a weight: of
    # several pairs of hooks autograd asks the innermost only.
    outer = torch._C._autograd._top_saved_tensors_default_hooks(False)

    def pack(saved: Tensor) -> Any:
        source = None
        if saved.layout == torch.strided and saved.numel():
            source = sources.get(saved.untyped_storage().data_ptr())
        if source is not None:
            return _Recipe(source, saved)
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
        raise linear.changed_codes()
    return packed.remake().as_strided(*packed.view)
