"""LMD on lists of parameters: what a block and a step read and write."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rung.formats import MX, FixedPoint, Minifloat
from rung.kernels import lmd_lists as kernel
from rung.kernels.lmd import Noise, parts, point_factor
from rung.optim import _lmd_checks as checks
from rung.optim._blocks import Draw
from rung.optim._checks import Group
from rung.optim._lmd_storage import ROUNDING, State, storage_of
from rung.optim._ranks import rank
from rung.optim._write import advance_all, working_gradient

Sums = tuple[Tensor, Tensor]
States = Mapping[Tensor, State]

# Keys of the random streams, added to a parameter's own; rounding takes those from 2^40 on.
_PREDICTIVE = 1 << 41
_RANK = 1 << 42

# Momentum that follows lr starts here: a fifth of it is the newest gradient, and half of c.
FASTEST = 0.2
_NEWEST_IN_UPDATE = 2.5

DEFAULT_LR = 0.02

_PLAIN = (Tensor, torch.nn.Parameter)

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


def numbers_of(group: Group, states: list[State]) -> Tensor:
    """A group's numbers, a row for each parameter; see `kernels.lmd_lists`."""
    beta1, beta2 = betas_of(group)
    first = [float(group["lr"]), beta1, beta2, group["sigma"], group["regularization"]]
    rows = [[*first, state["m0"], group["clip"]] for state in states]
    return torch.tensor(rows, dtype=torch.float64)


def keys_of(group: Group, states: list[State], predictive: bool = False) -> Tensor:
    """Names of a draw and of roundings: training's differs by rank if asked, prediction's never."""
    keys = torch.stack([state["key"] for state in states])
    steps = torch.stack([state["step"] for state in states]).to(keys)
    apart = 0
    if predictive:
        apart = _PREDICTIVE
    elif group["noise"] == "per_rank":
        apart = _RANK * rank()
    return torch.stack((keys + apart, steps, keys + ROUNDING), dim=1)


def write_sample(group: Group, params: list[Tensor], states: States, draw: Draw) -> None:
    """Put a draw into parameters."""
    for batch in _batches(group, params):
        own = [states[param] for param in batch]
        keys = keys_of(group, own, draw.predictive)
        if group["parts_format"] is not None:
            noise = Noise(keys[0, 0], int(keys[0, 1]), draw.sample)
            drawn = parts(*_flat_medians(group, own[0]), group["sigma"], noise)
            _write_rounded(group, batch[0], drawn)
            continue
        with _weights(batch) as weights:
            kernel.SAMPLE(
                weights, *_medians(group, own), keys, [0] * len(batch), draw.sample,
                numbers_of(group, own),
            )  # fmt: skip


def write_point(group: Group, params: list[Tensor], states: States, point: str) -> None:
    """Put the posterior's mean or median into parameters."""
    for batch in _batches(group, params):
        own = [states[param] for param in batch]
        if group["parts_format"] is not None:
            factor = point_factor(group["sigma"], point)
            pos, neg = _flat_medians(group, own[0])
            _write_rounded(group, batch[0], (pos * factor, neg * factor))
            continue
        with _weights(batch) as weights:
            kernel.POINT(weights, *_medians(group, own), numbers_of(group, own), point)


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
    kernel.ACCUMULATE(
        *([tensor] for tensor in sums), [grad], *_medians(group, [state]),
        keys_of(group, [state], draw.predictive), [0], draw.sample, numbers_of(group, [state]),
        samples,
    )  # fmt: skip
    return sums


def step(group: Group, params: list[Tensor], states: States, sums: Mapping[Tensor, Sums]) -> None:
    """One update of medians and momenta, and parameters at their point.

    Args:
        group: Hyper-parameters.
        params: Parameters with gradients.
        states: Their states.
        sums: h+- of several draws or ranks; of a parameter without them there was one draw, which
            is made again from the gradient.
    """
    for batch in _batches(group, params, sums):
        own = [states[param] for param in batch]
        _step_batch(group, batch, own, [sums[param] for param in batch if param in sums])
        advance_all([state["step"] for state in own], None)
    if group["parts_format"] is not None or not storage_of(group["state"]).plain:
        # What is stored, not what was about to be.
        write_point(group, params, states, group["evaluate"])


def _step_batch(group: Group, batch: list[Tensor], own: list[State], sums: list[Sums]) -> None:
    storage = storage_of(group["state"])
    grads = [working_gradient(param, group["maximize"]).contiguous() for param in batch]
    if not sums and not group["weight_scaled"]:
        sums = [(grad, -grad) for grad in grads]
    given: list[list[Tensor]] = [[pair[side] for pair in sums] for side in (0, 1)]
    vectors = [storage.open(state) for state in own]
    columns = [list(column) for column in zip(*vectors, strict=True)]
    with _weights(batch) as weights:
        kernel.UPDATE(
            weights, [] if sums else grads, *given, *columns, keys_of(group, own),
            [0] * len(batch), 0, numbers_of(group, own), group["prior"], group["entropy"],
            group["update"], group["evaluate"],
        )  # fmt: skip
    if not storage.plain:
        for state, opened in zip(own, vectors, strict=True):
            storage.close(state, opened, int(state["step"]))


def _batches(
    group: Group, params: list[Tensor], sums: Mapping[Tensor, Sums] | None = None
) -> list[list[Tensor]]:
    """Parameters that one call takes: one alone, or many whose tensors are used as they are.

    So no more than one parameter's temporaries exist at a time.
    """
    together: dict[Any, list[Tensor]] = {}
    whole = group["parts_format"] is None and storage_of(group["state"]).plain
    for place, param in enumerate(params):
        kind: Any = place
        if whole and _direct(param) and (sums is None or _as_it_is(group, param)):
            kind = (param.device, param.dtype, sums is not None and param in sums)
        together.setdefault(kind, []).append(param)
    return list(together.values())


def _direct(param: Tensor) -> bool:
    """Whether a parameter's own memory takes the weights."""
    good = param.dtype in (torch.float32, torch.float64) and param.is_contiguous()
    return good and (type(param) in _PLAIN or type(param.data) is Tensor)


def _as_it_is(group: Group, param: Tensor) -> bool:
    """Whether the gradient is used as it is."""
    grad = param.grad
    assert grad is not None
    good = grad.dtype == param.dtype and grad.is_contiguous() and type(grad) is Tensor
    return good and not group["maximize"] and group["weight_scaled"]


def _medians(group: Group, states: list[State]) -> tuple[list[Tensor], list[Tensor]]:
    """Lists of m+ and m- as they are stored, or of codes' values."""
    storage = storage_of(group["state"])
    pairs = [storage.open(s)[:2] if storage.plain else storage.medians(s) for s in states]
    return [pos for pos, _ in pairs], [neg for _, neg in pairs]


def _flat_medians(group: Group, state: State) -> Sums:
    pos, neg = storage_of(group["state"]).medians(state)
    return pos.view(-1), neg.view(-1)


@contextmanager
def _weights(batch: list[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors in the working dtype to write to, whose values the parameters then have."""
    if all(map(_direct, batch)):
        yield [param.detach() for param in batch]
        # The loops write past autograd's eyes.
        torch.autograd.graph.increment_version(batch)
        return
    buffers = [working_zeros(param).view(param.shape) for param in batch]
    yield buffers
    for param, buffer in zip(batch, buffers, strict=True):
        param.copy_(buffer)


def _write_rounded(group: Group, param: Tensor, drawn: Sums) -> None:
    """Put a difference of rounded parts into a parameter."""
    pos, neg = (_rounded(group, part.view(param.shape)) for part in drawn)
    param.copy_(pos - neg)


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
