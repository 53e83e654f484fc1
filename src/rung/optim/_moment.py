"""How an optimizer stores its second moment."""

from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]
MOMENTS = {"fp32": torch.float32, "bf16": torch.bfloat16, "log8": torch.uint8}
"""Storages of v by name: floats (float64 for float64 parameters), bfloat16 (2 bytes a weight) and
8-bit log codes with one power-of-two scale (1 byte); the latter two are rounded stochastically."""


def init_moment(state: State, like: Tensor, storage: str) -> None:
    """Put zeros for a parameter into its state."""
    dtype = MOMENTS[storage]
    if dtype == torch.float32 and like.dtype == torch.float64:
        dtype = torch.float64
    state["exp_avg_sq"] = torch.zeros(like.shape, dtype=dtype, device=like.device)
    if storage == "log8":
        state["exp_avg_sq_scale"] = torch.ones((), device=like.device)


def scales(states: list[State]) -> list[Tensor]:
    """The scales of moments in log codes; none for other storages."""
    return [state["exp_avg_sq_scale"] for state in states if "exp_avg_sq_scale" in state]


def write(target: Tensor, value: Tensor, finite: Tensor | None) -> None:
    """Assign in place; where a step must not synchronise, only if the gradients were finite."""
    target.copy_(value if finite is None else torch.where(finite, value, target))
