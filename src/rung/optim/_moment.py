"""How an optimizer stores its second moment, and a momentum beside it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rung.kernels.momentum import packed
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


def check_momentum_bits(storage: str, bits: int | None) -> None:
    """Require a width that the storage of v leaves open.

    Raises:
        ValueError: Another width than 4, 8 or None; any beside a storage in 16 or 32 bits.
    """
    if bits not in (None, 4, 8) or isinstance(bits, bool):
        raise ValueError(
            f"`momentum_bits` must be 4, 8, or None for what `state` suggests; got {bits!r}."
        )
    if bits is not None and storage in ("fp32", "bf16"):
        raise ValueError(
            f"state={storage!r} stores the momentum like the second moment; got "
            f"momentum_bits={bits}. Leave it out, or take state='log8'."
        )


def init_momentum(state: State, like: Tensor, group: Mapping[str, Any]) -> None:
    """Put zeros for a parameter's momentum into its state: in 4-bit floats beside few-bit v."""
    dtype = MOMENTS.get(group["state"], torch.uint8)
    if dtype != torch.uint8 or group.get("momentum_bits") == 8:
        state["exp_avg"] = torch.zeros(like.shape, dtype=dtype, device=like.device)
        return
    count = packed(like.numel())
    state["exp_avg"] = torch.zeros(count, dtype=torch.int8, device=like.device)


def momenta_of(work: Work) -> list[Tensor]:
    """The momenta of a step's parameters, none where the group has no momentum.

    Those that are missing are made: the group may have got its momentum after its state.
    """
    group = work.group
    if not group.get("momentum"):
        return []
    for param, state in zip(work.params, work.states, strict=True):
        if "exp_avg" not in state:
            init_momentum(state, param, group)
    return [state["exp_avg"] for state in work.states]


def write(target: Tensor, value: Tensor, finite: Tensor | None) -> None:
    """Assign in place; where a step must not synchronise, only if the gradients were finite."""
    target.copy_(value if finite is None else torch.where(finite, value, target))
