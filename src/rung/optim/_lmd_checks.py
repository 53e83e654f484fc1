"""What LMD refuses: hyper-parameters, parameters without a scale, damaged states."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rung import formats
from rung.formats import LNS, Format
from rung.kernels.lmd import PRIORS
from rung.optim._blocks import POINTS
from rung.optim._checks import ADDITIVE, Group, check_choice, check_range
from rung.optim._lmd_storage import MEDIANS, MOMENTA, STORAGES

OPTIONS = (
    "lr", "betas", "sigma", "prior", "regularization", "reach", "m0", "offset", "entropy",
    "update", "clip", "weight_scaled", "samples", "evaluate", "state", "parts_format", "noise",
    "seed", "on_nonfinite", "maximize",
)  # fmt: skip
"""Keys of a group of LMD."""

# exp(4 * 6.8 standard deviations) * exp(4^2 / 2) is the most that float32 can multiply a median by.
_LARGEST_SIGMA = 4.0


def check_options(group: Group) -> None:
    """Refuse hyper-parameters out of range.

    Raises:
        ValueError: The text names the option, the range and the value.
    """
    betas = group["betas"]
    if betas is not None:
        pair = isinstance(betas, tuple | list) and len(betas) == 2
        pair = pair and all(0 <= beta < 1 for beta in betas)
        check_range("betas", betas, pair, "None (they follow lr) or two numbers in [0, 1)")
    for name in ("reach", "offset", "clip"):
        value = group[name]
        if value is not None or name != "reach":
            check_range(name, value, 0 < value < math.inf, "positive and finite")
    check_range(
        "sigma", group["sigma"], 0 <= group["sigma"] <= _LARGEST_SIGMA,
        "from 0 to 4, beyond which exp(sigma * eps) overflows float32",
    )  # fmt: skip
    # None in the defaults: a group's own lr decides, in `_lmd_rule.complete`.
    decay = 0.0 if group["regularization"] is None else group["regularization"]
    check_range("regularization", decay, 0 <= decay < math.inf, "0 or more and finite")
    _check_step(group["lr"], group["clip"] if group["update"] == "rms" else 1.0, decay)
    if group["m0"] is not None:
        check_range("m0", group["m0"], 0 < group["m0"] < math.inf, "positive and finite")
    count = group["samples"]
    whole = isinstance(count, int) and not isinstance(count, bool) and count >= 1
    check_range("samples", count, whole, "a whole number of 1 or more")
    check_choice("prior", group["prior"], PRIORS)
    check_choice("update", group["update"], ("sign", "rms"))
    check_choice("evaluate", group["evaluate"], POINTS)
    check_choice("noise", group["noise"], ("same", "per_rank"))
    _check_state(group["state"])
    if group["parts_format"] is not None:
        parts_format(group["parts_format"])


def check_total_steps(steps: int) -> None:
    """Refuse a run of no steps."""
    whole = isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1
    check_range("total_steps", steps, whole, "a whole number of 1 or more")


def _check_step(lr: float, largest: float, decay: float) -> None:
    # ln m moves by lr * (u + lambda R): e^20 in one step leaves float32 within a few.
    if not float(lr) * (largest + decay) <= 20:
        raise ValueError(
            "`lr` times the largest update must be at most 20, beyond which exp overflows within "
            f"steps; got lr={lr}, updates up to {largest:g} and regularization={decay}. Usual is "
            "an lr of 0.01 to 0.1."
        )


def _check_state(name: Any) -> None:
    if name in STORAGES:
        return
    try:
        known = isinstance(name, str) and isinstance(formats.get(name), LNS)
        plain = known and not formats.get(name).zero
    except ValueError:
        known = plain = False
    if not known or not plain:
        raise ValueError(
            f"`state` must be one of {', '.join(map(repr, STORAGES))} or the name of an LNS "
            f"without a zero, such as 'lns16' or 'lns8'; got state={name!r}."
        )


def parts_format(given: str | Format) -> Format:
    """The format of w+ and w-.

    Raises:
        ValueError: No format has this name.
        TypeError: Neither a name nor a format.
    """
    return formats.get(given)


def scale_of(param: Tensor, m0: float | None, name: str) -> float:
    """m0 of a parameter: the given one, or its standard deviation.

    Raises:
        ValueError: A parameter that is not finite, or whose standard deviation is 0 or unknown.
    """
    if param.is_meta or not param.numel():
        return 1.0 if m0 is None else m0
    if not bool(torch.isfinite(param).all()):
        raise ValueError(f"{name} must be finite; got NaN or infinite weights.")
    if m0 is not None:
        return m0
    spread = float(param.detach().double().std()) if param.numel() > 1 else 0.0
    if not spread > 0:
        raise ValueError(
            f"{name} must vary, since its standard deviation sets the prior's scale m0; got "
            f"{spread:g} over {param.numel()} weights. Give the scale by `m0` (in a parameter "
            "group of its own, if it is for this one only), or train it by addition: "
            "LMD(rung.optim.split_parameters(model)) gives biases and norm gains to AdamW."
        )
    return spread


def check_loaded(state_dict: dict[str, Any], groups: list[Group]) -> None:
    """Refuse a state that no LMD has written, before any of it is loaded.

    Raises:
        ValueError: Medians or a scale that are not positive, NaN anywhere, a vector that is missing
            or of another shape.
    """
    params = [param for group in groups for param in group["params"]]
    for index, group, stored in _loaded(state_dict):
        param = params[index] if index < len(params) else None
        for name in (*MEDIANS, *MOMENTA):
            shape = tuple(getattr(stored.get(name), "shape", ()))
            if name not in stored or (param is not None and shape != tuple(param.shape)):
                wanted = "" if param is None else f" of shape {tuple(param.shape)}"
                raise ValueError(
                    f"`{name}` of parameter {index} must be a tensor{wanted}; got "
                    f"{f'shape {shape}' if name in stored else 'none'}. Load it into an optimizer "
                    "of the model that wrote it: nothing was loaded."
                )
        for name, value in stored.items():
            value = torch.as_tensor(value)
            must, good = _valid(name, value, group)
            bad = value.numel() - int(good.sum())
            if bad:
                raise ValueError(
                    f"`{name}` of parameter {index} must be {must}; got {bad} of {value.numel()} "
                    "values that are not. The state is damaged or of another optimizer: nothing "
                    "was loaded."
                )


def _valid(name: str, value: Tensor, group: Group) -> tuple[str, Tensor]:
    """What a stored tensor must be, and where it is that."""
    if name in MEDIANS and not value.is_floating_point():
        fmt = formats.get(group["state"])
        assert isinstance(fmt, LNS)
        good = (value >= 0) & (value.to(torch.int32) < fmt.levels)
        return f"codes from 0 to {fmt.levels - 1}", good
    if name.startswith("median") or name == "m0":
        return "positive and finite", (value > 0) & torch.isfinite(value)
    return "finite", torch.isfinite(value)


def _loaded(state_dict: dict[str, Any]) -> Iterator[tuple[int, Group, dict[str, Any]]]:
    """Place in the order of all parameters, group and state of each that LMD has trained."""
    place = 0
    for group in state_dict["param_groups"]:
        for index in group["params"]:
            stored = state_dict["state"].get(index)
            if stored and group.get("algorithm") != ADDITIVE:
                yield place, group, stored
            place += 1
