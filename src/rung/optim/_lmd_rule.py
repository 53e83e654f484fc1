"""LMD on one parameter: what a block and a step read and write."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from rung.formats import MX, FixedPoint, Minifloat
from rung.kernels.cpu import lmd as kernel
from rung.kernels.lmd import Noise, Settings, parts, point_factor
from rung.optim import _lmd_checks as checks
from rung.optim._base import Group
from rung.optim._blocks import Draw
from rung.optim._lmd_storage import State, storage_of
from rung.optim._ranks import rank
from rung.optim._write import working_gradient

Sums = tuple[Tensor, Tensor]

# Keys of the random streams, added to a parameter's own; rounding takes those from 2^40 on.
_PREDICTIVE = 1 << 41
_RANK = 1 << 42

# Momentum that follows lr starts here: a fifth of it is the newest gradient, and half of c.
FASTEST = 0.2
_NEWEST_IN_UPDATE = 2.5

DEFAULT_LR = 0.02

# Of the variance that ln m of a weight has whose gradient is noise: at most ln 2 times this.
_REACH_PER_REGULARIZATION = 3.0


def default_lr(total_steps: int | None) -> float:
    """A learning rate of 1 / sqrt(total_steps), 0.005 to 0.05; 0.02 if nothing is known.

    Measured on small transformers over 700 and 5,000 steps (docs/lmd.md).
    """
    if total_steps is None:
        return DEFAULT_LR
    return min(max(1 / math.sqrt(total_steps), 0.005), 0.05)


def complete(group: Group) -> None:
    """Fill in what depends on a group's own lr, before a schedule touches that."""
    lr = float(group["lr"]) or DEFAULT_LR
    if group["reach"] is None:
        group["reach"] = lr / FASTEST
    if group["regularization"] is None:
        betas = group["betas"]
        reach = group["reach"] if betas is None else lr / (1 - betas[1])
        group["regularization"] = reach / _REACH_PER_REGULARIZATION


def betas_of(group: Group) -> tuple[float, float]:
    """beta1 and beta2 of a step: the given ones, or those that follow lr.

    1 - beta2 = min(0.2, lr / reach),   1 - beta1 = 2.5 (1 - beta2)
    """
    if group["betas"] is not None:
        beta1, beta2 = group["betas"]
        return float(beta1), float(beta2)
    newest = min(FASTEST, float(group["lr"]) / group["reach"])
    return 1 - _NEWEST_IN_UPDATE * newest, 1 - newest


def initial_medians(param: Tensor, m0: float, offset: float, sigma: float) -> tuple[Tensor, Tensor]:
    """m+- = (relu(+-w) + offset m0) exp(-sigma^2 / 2), whose mean is w."""
    dtype = torch.float64 if param.dtype == torch.float64 else torch.float32
    weight = param.detach().to(dtype)
    shrink = math.exp(-(sigma**2) / 2)
    return (
        (weight.relu() + offset * m0).contiguous() * shrink,
        ((-weight).relu() + offset * m0).contiguous() * shrink,
    )


def settings_of(group: Group, state: State) -> Settings:
    """A group's numbers for one parameter."""
    return Settings(
        float(group["lr"]),
        *betas_of(group),
        group["sigma"],
        group["prior"],
        group["regularization"],
        state["m0"],
        group["entropy"],
        group["update"],
        group["clip"],
    )


def noise_of(group: Group, state: State, draw: Draw) -> Noise:
    """Names of a draw's noise: training's differs by rank if asked, prediction's never does."""
    key = state["key"]
    if draw.predictive:
        key = key + _PREDICTIVE
    elif group["noise"] == "per_rank":
        key = key + _RANK * rank()
    return Noise(key, int(state["step"]), draw.sample)


def write_sample(group: Group, param: Tensor, state: State, draw: Draw) -> None:
    """Put a draw into a parameter."""
    medians = _flat_medians(group, state)
    noise = noise_of(group, state, draw)
    with _flat(param) as weight:
        if group["parts_format"] is None:
            kernel.sample_into(weight, *medians, group["sigma"], noise)
            return
        drawn = parts(*medians, group["sigma"], noise)
        pos, neg = (_rounded(group, part.view(param.shape)) for part in drawn)
        weight.copy_((pos - neg).view(-1))


def write_point(group: Group, param: Tensor, state: State, point: str) -> None:
    """Put the posterior's mean or median into a parameter."""
    medians = _flat_medians(group, state)
    with _flat(param) as weight:
        if group["parts_format"] is None:
            kernel.point_into(weight, *medians, group["sigma"], point)
            return
        factor = point_factor(group["sigma"], point)
        pos, neg = (_rounded(group, (part * factor).view(param.shape)) for part in medians)
        weight.copy_((pos - neg).view(-1))


def add_draw(
    group: Group,
    param: Tensor,
    state: State,
    draw: Draw,
    samples: int,
    sums: Sums | None,
) -> Sums:
    """h+- of the draws so far, each divided by the number of draws of the step."""
    grad = working_gradient(param, group["maximize"]).reshape(-1)
    if sums is None:
        sums = (working_zeros(param), working_zeros(param))
    if not group["weight_scaled"]:
        return sums[0].add_(grad / samples), sums[1].sub_(grad / samples)
    medians = _flat_medians(group, state)
    noise = noise_of(group, state, draw)
    kernel.accumulate_into(*sums, grad, *medians, group["sigma"], noise, samples)
    return sums


def step(group: Group, param: Tensor, state: State, sums: Sums | None) -> None:
    """One update of medians and momenta, and the parameter at its point.

    Args:
        group: Hyper-parameters.
        param: Parameter with a gradient.
        state: Its state.
        sums: h+- of several draws or ranks; None: of one draw, made again from the gradient.
    """
    storage, settings = storage_of(group["state"]), settings_of(group, state)
    vectors = storage.open(state)
    m_pos, m_neg, v_pos, v_neg = (tensor.view(-1) for tensor in vectors)
    flat = (m_pos, m_neg, v_pos, v_neg)
    grad = working_gradient(param, group["maximize"]).reshape(-1)
    if sums is None and not group["weight_scaled"]:
        sums = (grad, -grad)
    with _flat(param) as weight:
        if sums is None:
            noise = noise_of(group, state, Draw(0))
            kernel.update(weight, grad, *flat, settings, noise, group["evaluate"])
        else:
            kernel.update_from(weight, *sums, *flat, settings, group["evaluate"])
    storage.close(state, vectors, int(state["step"]))
    state["step"] += 1
    if group["parts_format"] is not None or storage.rounds:
        # What is stored, not what was about to be.
        write_point(group, param, state, group["evaluate"])


def _flat_medians(group: Group, state: State) -> Sums:
    pos, neg = storage_of(group["state"]).medians(state)
    return pos.view(-1), neg.view(-1)


@contextmanager
def _flat(param: Tensor) -> Iterator[Tensor]:
    """A flat tensor in the working dtype to write to, whose values the parameter then has."""
    dtype = torch.float64 if param.dtype == torch.float64 else torch.float32
    if param.dtype == dtype and param.is_contiguous() and type(param.data) is Tensor:
        yield param.detach().view(-1)
        return
    buffer = torch.empty(param.numel(), dtype=dtype, device=param.device)
    yield buffer
    param.copy_(buffer.view(param.shape))


def working_zeros(param: Tensor) -> Tensor:
    """Flat zeros in the working dtype, as many as the parameter has numbers."""
    dtype = torch.float64 if param.dtype == torch.float64 else torch.float32
    return torch.zeros(param.numel(), dtype=dtype, device=param.device)


def _rounded(group: Group, part: Tensor) -> Tensor:
    """w+ or w- in the parts' format."""
    fmt = checks.parts_format(group["parts_format"])
    if isinstance(fmt, MX):
        return fmt.quantize(part, dim=1 if part.ndim > 3 else -1)
    if isinstance(fmt, FixedPoint) or (isinstance(fmt, Minifloat) and fmt.bits <= 8):
        # Their range is a few octaves: a cast would make usual weights zero.
        return fmt.quantize(part, scale="amax")
    return fmt.quantize(part)
