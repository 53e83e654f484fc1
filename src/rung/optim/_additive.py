"""The additive side of a model (biases, norm gains): torch's own AdamW, inside our optimizers."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from rung.tensor.coded import CodedTensor

DEFAULTS = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
_KEYS = {"params", "param_names", "algorithm", "maximize", "foreach", "capturable", *DEFAULTS}


def check(group: dict[str, Any]) -> None:
    """Refuse hyper-parameters that AdamW refuses, in its own words."""
    given = {key: group[key] for key in DEFAULTS if key in group}
    torch.optim.AdamW([torch.zeros(1)], **given)


def complete(group: dict[str, Any], drop: Iterable[str]) -> None:
    """Check AdamW's hyper-parameters of a group and drop those of the multiplicative rule."""
    # A scheduler's key (initial_lr) and the user's own stay: only the rule's are dropped.
    for key in drop:
        if key not in _KEYS:
            group.pop(key, None)
    check(group)


def init_state(state: dict[str, Any], param: Tensor, group: dict[str, Any]) -> None:
    """Zero moments, as AdamW makes them.

    Raises:
        ValueError: A weight that lives in codes.
    """
    if isinstance(param, CodedTensor):
        raise ValueError(
            "A weight stored in codes can't be trained by AdamW, whose steps it would round away. "
            "Put it into a multiplicative group, or leave it out of rung.store_weights_ by `skip`."
        )
    device = param.device if group["capturable"] else None
    state["step"] = torch.zeros((), dtype=torch.float32, device=device)
    state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
    state["exp_avg_sq"] = torch.zeros_like(param, memory_format=torch.preserve_format)


def step(states: Any, group: dict[str, Any], params: list[Tensor], finite: Tensor | None) -> None:
    """One AdamW step; where `finite` is given, undone on the device unless it is true."""
    if not params:
        return
    kept = (
        [(t, t.clone()) for p in params for t in (p, *states[p].values())]
        if finite is not None
        else []
    )
    adamw(
        params,
        [param.grad for param in params],  # type: ignore[misc]
        [states[param]["exp_avg"] for param in params],
        [states[param]["exp_avg_sq"] for param in params],
        [],
        [states[param]["step"] for param in params],
        foreach=group["foreach"],
        capturable=group["capturable"] and params[0].device.type != "cpu",
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=group["maximize"],
    )
    for tensor, before in kept:
        tensor.copy_(torch.where(finite, tensor, before))  # type: ignore[arg-type]
