"""Torchao's INT8 weights under bitsandbytes' 8-bit moments: three bytes a weight of linear layers.

torchao rounds stochastically whatever is copied into its weights. Its own 8-bit AdamW moves them
too, but without torch.compile takes 175 ns a weight on a CPU: longer than all the rest of a step.
"""

from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from rung.tensor.roles import Role, roles

_NAME = "Int8QuantizedTrainingLinearWeight"

KIND = f"torchao.{_NAME}"
"""How checkpoints name these weights."""


def is_int8(value: object) -> bool:
    """Whether it is such a weight, told without importing torchao."""
    return type(value).__name__ == _NAME


@cache
def weight_type() -> Any:
    """Torchao's tensor of int8 rows, a float scale each.

    Raises:
        ImportError: torchao is missing.
    """
    return getattr(import_module("torchao.prototype.quantized_training"), _NAME)


def store_int8(model: nn.Module) -> None:
    """Put the weights of linear layers into int8 rows; all others stay as they are.

    Raises:
        ValueError: No weight of the model is a linear layer's alone.
    """
    taken = [role for role in roles(model) if _is_linear(role)]
    if not taken:
        raise ValueError(
            "'adamw-int8' stores the weights of nn.Linear layers, of which the model must have one "
            "whose weight is no other layer's too; got none. Use 'adamw-8bit'."
        )
    for role in taken:
        module, attribute = role.owners[0]
        stored = weight_type().from_float(role.parameter.detach())
        setattr(module, attribute, nn.Parameter(stored))
        # torchao's backward pass takes views of what it gets, which attention doesn't lay out so.
        module.register_forward_pre_hook(_contiguous_inputs)
        module.register_forward_hook(_contiguous_gradient)


def _contiguous_inputs(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(value.contiguous() for value in inputs)


def _contiguous_gradient(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    if output.requires_grad:
        output.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]


def _is_linear(role: Role) -> bool:
    """Whether torchao can multiply by it: an embedding's rows can't be taken from its tensor."""
    if role.additive_reason is not None or len(role.owners) > 1:
        return False
    return isinstance(role.owners[0][0], nn.Linear)


@cache
def stepping_on_copies(kind: Any) -> Any:
    """The optimizer of bitsandbytes, which sees a float32 copy of an int8 weight."""

    class OnCopies(kind):  # type: ignore[misc]
        @torch.no_grad()
        def update_step(self, group: Any, p: Tensor, gindex: int, pindex: int) -> None:
            if not is_int8(p):
                super().update_step(group, p, gindex, pindex)
                return
            copy = nn.Parameter(dequantized(p))
            copy.grad = p.grad
            self.state[copy] = self.state[p]
            super().update_step(group, copy, gindex, pindex)
            del self.state[copy]
            p.copy_(copy.detach())

    return OnCopies


def dequantized(weight: Any) -> Tensor:
    """An int8 weight's values, as a plain float tensor."""
    found: Tensor = weight.detach().dequantize()
    return found


def to_parts(weight: Any) -> dict[str, Tensor]:
    """The plain tensors that hold an int8 weight."""
    return {"int_data": weight.int_data, "scale": weight.scale}


def from_parts(parts: dict[str, Tensor]) -> Any:
    """The inverse of `to_parts`."""
    return weight_type()(parts["int_data"], parts["scale"])
