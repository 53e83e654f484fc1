"""How an optimizer stores its second moment, and a momentum beside it."""

from typing import Any

import torch
from torch import Tensor

from rung.optim._work import Work

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


def init_momentum(state: State, like: Tensor, storage: str) -> None:
    """Put zeros for a parameter's momentum into its state: in 8-bit floats beside rows, too."""
    dtype = MOMENTS.get(storage, torch.uint8)
    state["exp_avg"] = torch.zeros(like.shape, dtype=dtype, device=like.device)


def momenta_of(work: Work) -> list[Tensor]:
    """The momenta of a step's parameters, none where the group has no momentum.

    Those that are missing are made: the group may have got its momentum after its state.
    """
    group = work.group
    if not group["momentum"]:
        return []
    for param, state in zip(work.params, work.states, strict=True):
        if "exp_avg" not in state:
            init_momentum(state, param, group["state"])
    return [state["exp_avg"] for state in work.states]


def write(target: Tensor, value: Tensor, finite: Tensor | None) -> None:
    """Assign in place; where a step must not synchronise, only if the gradients were finite."""
    target.copy_(value if finite is None else torch.where(finite, value, target))
