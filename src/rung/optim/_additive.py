"""The additive side of a model (biases, norm gains): torch's own AdamW, inside our optimizers."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from rung.kernels import fits, step_counts
from rung.kernels.dispatch import plain
from rung.optim._checks import ADDITIVE, Group
from rung.optim._work import Work
from rung.optim._write import undone_unless
from rung.optim.split import ParameterSplit
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


def groups_of(split: ParameterSplit, additive: dict[str, Any]) -> list[Group]:
    """A group for each side of a split that has parameters; `additive` is AdamW's."""
    multiplicative_names, additive_names = split.names
    groups: list[Group] = []
    if split.multiplicative:
        named = list(zip(multiplicative_names, split.multiplicative, strict=True))
        groups.append({"params": named})
    if split.additive:
        named = list(zip(additive_names, split.additive, strict=True))
        groups.append({"params": named, "algorithm": ADDITIVE, **additive})
    return groups


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


def step(work: Work, finite: Tensor | None) -> None:
    """One AdamW step; where `finite` is given, undone on the device unless it is true.

    Args:
        work: Of a group of AdamW's, as `require_fit` leaves it.
        finite: 0-d bool, or None.
    """
    group, params, grads, states = work
    if not params:
        return
    means, squares = [state["exp_avg"] for state in states], [s["exp_avg_sq"] for s in states]
    steps = [state["step"] for state in states]
    written = () if finite is None else (*params, *means, *squares, *steps)
    with undone_unless(finite, written):
        numbers: dict[str, Any] = {
            "beta1": group["betas"][0],
            "beta2": group["betas"][1],
            "lr": group["lr"],
            "weight_decay": group["weight_decay"],
            "eps": group["eps"],
            "maximize": group["maximize"],
            "amsgrad": False,
        }
        if not group["foreach"] and _fuses(numbers, params, grads, means, squares):
            # As adamw(fused=True), which counts each tensor's step by a call of its own.
            step_counts.advance(steps)
            torch._fused_adamw_(params, grads, means, squares, [], steps, **numbers)
            return
        numbers["capturable"] = group["capturable"] and params[0].device.type != "cpu"
        adamw(params, grads, means, squares, [], steps, foreach=group["foreach"], **numbers)


def _fuses(numbers: dict[str, Any], *lists: list[Tensor]) -> bool:
    """Whether torch's one call for a whole list on the CPU takes it, which looks at no layout."""
    if not plain(lists):
        return False
    host = all(not isinstance(x, Tensor) or x.device.type == "cpu" for x in numbers.values())
    return host and fits.dense_floats(*lists)
