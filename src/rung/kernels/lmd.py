"""LMD on flat tensors, in PyTorch operations: sample, gather the gradient, update.

    w+- = m+- exp(sigma eps+-),  w = w+ - w-          eps+- ~ N(0, 1), see `normal`
    h+- = +-w+- g
    c+- = beta1 v+- + (1 - beta1) h+-,  v+- <- beta2 v+- + (1 - beta2) h+-
    m+- <- m+- exp(-lr (u(c+-) + lambda R(m+-)))      R from the m before

These are the definitions, on any device and in any floating dtype, traceable; `cpu.lmd` computes
the same in one pass. All tensors are flat, of one length and dtype, and written in place.

Nothing leaves the range of float32: h is limited to 2^63 (NaN counts as 0), whose square is finite;
ln m moves by at most 87 in a step; m stays between 2^-126 and 2^100.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rung.kernels.normal import normal_pair

SMALLEST, LARGEST = 2.0**-126, 2.0**100  # of a median
LARGEST_H = 2.0**63
LARGEST_MOVE = 87.0  # of ln m in a step, and of the noise sigma eps
PRIORS = ("lognormal", "exponential", "gaussian", "constant")
UPDATES = ("sign", "rms")


class Settings(NamedTuple):
    """Numbers of one step on one tensor.

    Args:
        lr: Change of ln m per unit of u and R.
        beta1: Of c, in [0, 1].
        beta2: Of v, in [0, 1].
        sigma: Standard deviation of ln w+-, >= 0; 0 draws nothing.
        prior: One of `PRIORS`.
        regularization: lambda, >= 0.
        m0: The prior's scale, positive.
        entropy: Subtract 1 from R of the exponential and the gaussian prior.
        update: ``"sign"``: u = sign(c); ``"rms"``: u = c / rms(c), limited to `clip`.
        clip: Largest magnitude of an ``"rms"`` update.
    """

    lr: float
    beta1: float
    beta2: float
    sigma: float
    prior: str
    regularization: float
    m0: float
    entropy: bool
    update: str
    clip: float


class Noise(NamedTuple):
    """Names of one draw.

    Args:
        key: 0-d int64 tensor, see `philox.key_from_seed`.
        step: Number of the step; a 0-d integer tensor keeps graphs static.
        sample: Number of the draw inside the step.
        start: Index of the tensors' first element, for parts of a longer parameter.
    """

    key: Tensor
    step: int | Tensor
    sample: int = 0
    start: int = 0


def parts(m_pos: Tensor, m_neg: Tensor, sigma: float, noise: Noise) -> tuple[Tensor, Tensor]:
    """w+ and w- of a draw; the medians themselves where sigma is 0."""
    if not sigma:
        return m_pos, m_neg
    key, step, sample, start = noise
    eps = normal_pair(key, start, m_pos.numel(), step, sample)
    moves = [(sigma * e.to(m_pos.dtype)).clamp(-LARGEST_MOVE, LARGEST_MOVE) for e in eps]
    return m_pos * moves[0].exp(), m_neg * moves[1].exp()


def sample_into(weight: Tensor, m_pos: Tensor, m_neg: Tensor, sigma: float, noise: Noise) -> None:
    """Write w = w+ - w- of a draw."""
    pos, neg = parts(m_pos, m_neg, sigma, noise)
    weight.copy_(pos - neg)


def point_into(weight: Tensor, m_pos: Tensor, m_neg: Tensor, sigma: float, evaluate: str) -> None:
    """Write the posterior's ``"mean"`` (m+ - m-) exp(sigma^2 / 2), or its ``"median"`` m+ - m-."""
    weight.copy_((m_pos - m_neg) * point_factor(sigma, evaluate))


def accumulate_into(
    h_pos: Tensor,
    h_neg: Tensor,
    grad: Tensor,
    m_pos: Tensor,
    m_neg: Tensor,
    sigma: float,
    noise: Noise,
    samples: int = 1,
) -> None:
    """Add +-w+- g / samples of a draw to h+-.

    Args:
        h_pos: Sum so far for the positive part.
        h_neg: Sum so far for the negative part.
        grad: dL/dw at that draw.
        m_pos: Medians of the positive part.
        m_neg: Medians of the negative part.
        sigma: Standard deviation of ln w+-.
        noise: The draw that `grad` was taken at.
        samples: Draws of the step.
    """
    pos, neg = parts(m_pos, m_neg, sigma, noise)
    share = grad * (1 / samples)
    h_pos.add_(pos * share)
    h_neg.sub_(neg * share)


def update(
    weight: Tensor,
    grad: Tensor,
    m_pos: Tensor,
    m_neg: Tensor,
    v_pos: Tensor,
    v_neg: Tensor,
    settings: Settings,
    noise: Noise,
    evaluate: str = "mean",
) -> None:
    """One step from the gradient of one draw: medians, momenta, then the weight.

    Args:
        weight: Receives the new posterior's point; not read.
        grad: dL/dw at the draw; of the sign that descends.
        m_pos: Medians of the positive part, positive.
        m_neg: Medians of the negative part, positive.
        v_pos: Momentum of the positive part.
        v_neg: Momentum of the negative part.
        settings: The step's numbers.
        noise: The draw that `grad` was taken at.
        evaluate: ``"mean"`` or ``"median"``.
    """
    pos, neg = parts(m_pos, m_neg, settings.sigma, noise)
    update_from(weight, pos * grad, -(neg * grad), m_pos, m_neg, v_pos, v_neg, settings, evaluate)


def update_from(
    weight: Tensor,
    h_pos: Tensor,
    h_neg: Tensor,
    m_pos: Tensor,
    m_neg: Tensor,
    v_pos: Tensor,
    v_neg: Tensor,
    settings: Settings,
    evaluate: str = "mean",
) -> None:
    """`update` with h+- given, the mean over the step's draws.

    Raises:
        ValueError: for an unknown prior, update or point, before anything is written.
    """
    by_rms(settings)
    regularizer_numbers(settings)
    point_factor(settings.sigma, evaluate)
    beta1, beta2 = settings.beta1, settings.beta2
    updates = []
    for v, h in ((v_pos, bounded(h_pos)), (v_neg, bounded(h_neg))):
        updates.append(beta1 * v + (1 - beta1) * h)
        v.copy_(beta2 * v + (1 - beta2) * h)
    for m, u in zip((m_pos, m_neg), direction(updates[0], updates[1], settings), strict=True):
        decay = settings.lr * settings.regularization * regularizer(m, settings)
        move = (settings.lr * u + decay).clamp(-LARGEST_MOVE, LARGEST_MOVE)
        m.copy_((m * torch.exp(-move)).clamp(SMALLEST, LARGEST))
    point_into(weight, m_pos, m_neg, settings.sigma, evaluate)


def bounded(h: Tensor) -> Tensor:
    """The same with 0 for NaN, limited to +-2^63."""
    return torch.nan_to_num(h, 0.0).clamp(-LARGEST_H, LARGEST_H)


def direction(c_pos: Tensor, c_neg: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """The update's direction u+-."""
    if not by_rms(settings):
        return c_pos.sign(), c_neg.sign()
    square = (c_pos.double().square().sum() + c_neg.double().square().sum()) / 2
    rms = (square / max(c_pos.numel(), 1)).sqrt()
    inverse = torch.where(rms > 0, 1 / rms, 0.0)
    bound = settings.clip
    # In float64: the inverse of a tiny rms has no room in float32.
    pos, neg = ((c.double() * inverse).clamp(-bound, bound).to(c.dtype) for c in (c_pos, c_neg))
    return pos, neg


def by_rms(settings: Settings) -> bool:
    """Whether directions are relative to the root mean square of c.

    Raises:
        ValueError: for an unknown update.
    """
    if settings.update not in UPDATES:
        raise ValueError(
            f"`update` must be one of {', '.join(map(repr, UPDATES))}; got {settings.update!r}."
        )
    return settings.update == "rms"


def regularizer(m: Tensor, settings: Settings) -> Tensor:
    """R of the prior, between -2^100 and 2^100."""
    factor, shift = regularizer_numbers(settings)
    if settings.prior == "constant":
        return torch.ones_like(m)
    if settings.prior == "lognormal":
        return torch.log(m.clamp(SMALLEST, LARGEST)) + math.log(factor)
    # Rounding the ratio into the normal numbers: its square stays finite.
    ratio = (m * factor).clamp(SMALLEST, LARGEST)
    if settings.prior == "gaussian":
        ratio = ratio.square().clamp(max=LARGEST)
    return ratio - shift


def regularizer_numbers(settings: Settings) -> tuple[float, float]:
    """(factor, shift): R is a function of factor * m, less shift.

    Raises:
        ValueError: for an unknown prior.
    """
    if settings.prior not in PRIORS:
        raise ValueError(
            f"`prior` must be one of {', '.join(map(repr, PRIORS))}; got {settings.prior!r}."
        )
    powers = {"exponential": 0.5, "gaussian": 1.0}
    # e^700 / m0 is beyond the limit already; a float64 ends at e^709.
    power = min(powers.get(settings.prior, 0.0) * settings.sigma**2, 700.0)
    factor = math.exp(power) / settings.m0
    return min(max(factor, SMALLEST), LARGEST), 1.0 if settings.entropy else 0.0


def point_factor(sigma: float, evaluate: str) -> float:
    """What the medians' difference is multiplied by: e^(sigma^2 / 2) for the mean."""
    if evaluate not in ("mean", "median"):
        raise ValueError(f"`evaluate` must be 'mean' or 'median'; got {evaluate!r}.")
    return math.exp(sigma**2 / 2) if evaluate == "mean" else 1.0
