"""A second moment of means over rows and columns: plain PyTorch beside the kernels, and slower."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from rung.formats import Pair, Sinh
from rung.kernels import ladder
from rung.kernels.madam import Scalar, bias_correction
from rung.kernels.moment import random_halves
from rung.kernels.momentum import read as read_momentum
from rung.kernels.momentum import write as write_momentum
from rung.kernels.rung_moves import (
    FURTHEST,
    Draws,
    bbit_madam_update,
    pair_draws,
    pair_madam_update,
    signed_madam_update,
)
from rung.optim._checks import Group
from rung.optim._moment import State, momenta_of
from rung.optim._work import Work
from rung.optim._write import advance, undone_unless, write_weight
from rung.tensor.coded import CodedTensor

ROWS = "rows"
"""The storage's name: v <- beta v + (1 - beta) mean over the row of g^2, float32, for each index of
dimension 0. Vectors keep one for every element."""
FACTORED = "factored"
"""The same, and the means over dimension 0 for each index of the others: v_ij is the row's mean
times the column's over the mean of all (Shazeer, Stern 2018, arXiv:1804.04235, section 3)."""
MEANS = (ROWS, FACTORED)


def init_means(state: State, like: Tensor, storage: str) -> None:
    """Put zeros for a parameter into its state; `storage` is one of `MEANS`."""
    state["row_avg_sq"] = torch.zeros(like.shape[:1], dtype=torch.float32, device=like.device)
    if storage == FACTORED and like.ndim > 1:
        state["col_avg_sq"] = torch.zeros(like.shape[1:], dtype=torch.float32, device=like.device)


def _kept(state: State) -> list[Tensor]:
    return [state[name] for name in ("row_avg_sq", "col_avg_sq", "exp_avg") if name in state]


def step_floats(work: Work, finite: Tensor | None) -> None:
    """Madam's step on weights in floating point; undone on the device unless `finite`."""
    group, params, grads, states = work
    lr, decay = group["lr"], group["weight_decay"]
    for param, grad, state in zip(params, grads, states, strict=True):
        with undone_unless(finite, _kept(state)):
            update = _normalized(param, grad, state, group, finite)
        weight = param.detach().to(update.dtype)
        moved = weight * torch.exp(-lr * (weight.sign() * update + decay))
        bound = state["max_weight"]
        write_weight(param, moved.clamp(-bound, bound), lr, finite)


def step_codes(work: Work, finite: Tensor | None, rungs: list[Scalar]) -> None:
    """B-bit and signed Madam's step; `rungs` are those that an update of 1 moves each weight by."""
    group, params, grads, states = work
    momenta: Sequence[Tensor | None] = momenta_of(work) or [None] * len(params)
    for param, grad, state, carried, factor in zip(
        params, grads, states, momenta, rungs, strict=True
    ):
        coded = cast(CodedTensor, param)
        with undone_unless(finite, [coded.codes, *_kept(state)]):
            update = _normalized(param, grad, state, group, finite)
            time = state["step"].to(torch.int64)
            if carried is not None:
                update = _carry(update, carried, coded.key, time, group["momentum"])
            draws = None
            if group["rounding"] == "stochastic":
                draws = random_halves(coded.key, 0, update.numel(), time)[1]
            if isinstance(coded.format, Pair):
                both = pair_draws(draws, coded.key, 0, time)
                new = _moved_pair(coded, update, factor, group["weight_decay"], both)
            else:
                new = _moved(coded, update, factor, group["weight_decay"], draws)
            stored = ladder.store_codes(new, coded.format.bits)
            coded.codes.copy_(stored.reshape(coded.codes.shape))


def _carry(update: Tensor, carried: Tensor, key: Tensor, time: Tensor, momentum: float) -> Tensor:
    """Move a momentum in place; what weights move by, m / (1 - momentum^t)."""
    flat = carried.view(-1)
    old, rest = read_momentum(flat, update.numel()), 1 - momentum
    new = old * momentum + update.reshape(-1).to(torch.float32) * rest
    write_momentum(flat, new, key, 0, time)
    return (new / (1 - momentum**time)).reshape(update.shape)


def _moved(
    coded: CodedTensor, update: Tensor, factor: Scalar, decay: float, draws: Tensor | None
) -> Tensor:
    """New codes, int32 and flat."""
    fmt, old = coded.format, ladder.load_codes(coded.codes).reshape(-1)
    if isinstance(fmt, Sinh):
        top = fmt.levels // 2
        wanted = _wanted(update.reshape(-1) + (old - top) * (decay / top), factor)
        return signed_madam_update(old, wanted, 2 * top, draws)
    wanted = _wanted(coded.decode().sign() * update + decay, factor).reshape(-1)
    return bbit_madam_update(old, wanted, fmt.levels - 1, draws)


def _moved_pair(
    coded: CodedTensor, update: Tensor, factor: Scalar, decay: float, draws: Draws
) -> Tensor:
    """New codes of both ladders, int32 and flat."""
    fmt, flat = coded.format, update.reshape(-1)
    assert isinstance(fmt, Pair)
    pull = decay / (fmt.ladder.levels // 2)
    plus, minus = (k.reshape(-1) for k in fmt.split(coded.codes))
    down, up = _wanted(flat + plus * pull, factor), _wanted(minus * pull - flat, factor)
    old = ladder.load_codes(coded.codes).reshape(-1)
    return pair_madam_update(old, down, up, fmt.bits, draws)


def _wanted(update: Tensor, factor: Scalar) -> Tensor:
    return (update * factor).clamp(-FURTHEST, FURTHEST).to(torch.float32)


def _normalized(
    param: Tensor, grad: Tensor, state: State, group: Group, finite: Tensor | None
) -> Tensor:
    """Count the step, move v in place; u = clamp(g / sqrt(v / (1 - beta^t)), -clip, +clip)."""
    step = advance(state["step"], finite, group["capturable"])
    dtype = torch.float64 if param.dtype == torch.float64 else torch.float32
    g = -grad.to(dtype) if group["maximize"] else grad.to(dtype)
    beta, clip = group["beta"], group["clip"]
    if g.numel():  # an empty row has no mean
        # In float64 a sum of squares can't overflow.
        squares = g.double().square()
        rows = squares if g.ndim < 2 else squares.flatten(1).mean(1)
        means = [(state["row_avg_sq"], rows)]
        if "col_avg_sq" in state:
            means.append((state["col_avg_sq"], squares.mean(0)))
        for v, mean in means:
            v.copy_(v.double() * beta + mean * (1 - beta))
    typical = (_moment(state, g) / bias_correction(beta, step)).sqrt().to(dtype)
    return torch.where(typical > 0, g / typical, 0.0).clamp(-clip, clip)


def _moment(state: State, like: Tensor) -> Tensor:
    """V of every element, float64; of a shape that broadcasts to the gradient's."""
    rows: Tensor = state["row_avg_sq"].double()
    wide = rows.reshape(rows.shape + (1,) * (like.ndim - rows.ndim))
    if "col_avg_sq" not in state or not like.numel():
        return wide
    mean = rows.mean()
    columns: Tensor = state["col_avg_sq"].double()
    return torch.where(mean > 0, wide * columns / mean, 0.0)
