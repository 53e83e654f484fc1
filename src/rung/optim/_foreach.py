"""Madam by multi-tensor operations: `madam_update` for a whole list, fewer launches."""

from typing import Any

import torch
from torch import Tensor

from rung.kernels.madam import bias_correction
from rung.optim._moment import write
from rung.optim._write import advance, working_gradient, write_weight


def madam_update_foreach(
    states: Any, group: dict[str, Any], params: list[Tensor], finite: Tensor | None
) -> None:
    """Update parameters in place; equal to `madam_update` on each of them.

    Args:
        states: The optimizer's state: ``step``, ``exp_avg_sq`` (not in codes) and ``max_weight``.
        group: Hyper-parameters.
        params: Parameters of any dtypes and devices, each with a gradient.
        finite: 0-d bool to undo the step on the device, or None.
    """
    buckets: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for param in params:
        buckets.setdefault((param.device, param.dtype), []).append(param)
    for bucket in buckets.values():
        _update_bucket([states[param] for param in bucket], group, bucket, finite)


def _update_bucket(
    states: list[dict[str, Any]], group: dict[str, Any], params: list[Tensor], finite: Tensor | None
) -> None:
    lr, beta, clip = group["lr"], group["beta"], group["clip"]
    steps = [advance(state["step"], finite, group["capturable"]) for state in states]
    grads = [working_gradient(param, group["maximize"]) for param in params]
    squares = torch._foreach_mul(torch._foreach_mul(grads, grads), 1 - beta)
    moments = torch._foreach_mul([state["exp_avg_sq"] for state in states], beta)
    torch._foreach_add_(moments, squares)
    corrections: list[Any] = [bias_correction(beta, step) for step in steps]
    typical = torch._foreach_div(moments, corrections)
    torch._foreach_sqrt_(typical)
    ratios = torch._foreach_div(grads, typical)
    # 0 / 0 where neither a gradient nor a moment exists: the update is 0 there.
    updates = [torch.where(t > 0, u, 0.0) for t, u in zip(typical, ratios, strict=True)]
    torch._foreach_clamp_max_(updates, clip)
    torch._foreach_clamp_min_(updates, -clip)
    weights = [param.to(grad.dtype) for param, grad in zip(params, grads, strict=True)]
    exponents = torch._foreach_mul(torch._foreach_sign(weights), updates)
    torch._foreach_add_(exponents, group["weight_decay"])
    torch._foreach_mul_(exponents, -lr)
    torch._foreach_exp_(exponents)
    moved = torch._foreach_mul(weights, exponents)
    for state, param, weight, moment in zip(states, params, moved, moments, strict=True):
        bound = state["max_weight"]
        write_weight(param, weight.clamp(-bound, bound), lr, finite)
        write(state["exp_avg_sq"], moment, finite)
