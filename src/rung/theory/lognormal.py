"""Why weights become log-normal: noise and decay that both multiply, as a process without data."""

import math

import torch
from torch import Tensor


def lognormal_process(
    weights: Tensor,
    m0: float,
    lr: float,
    regularization: float,
    sigma: float,
    steps: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """LMD without a gradient, when each step goes on from the weight that was sampled.

        w' = s exp(-lr lam ln(s / m0)),  s = w exp(sigma eps),  eps ~ N(0, 1)

    which on x = ln(w / m0) is x' = (1 - lr lam) (x + sigma eps): linear in x, so that x tends to
    a normal and w to a log-normal distribution, whatever it started from.

    Args:
        weights: w+ or w- to start from, any shape, positive and finite; elements are independent.
        m0: Scale of the log-normal prior, positive and within the range of the weights' dtype.
        lr: Learning rate; 0 < lr * regularization < 2.
        regularization: lam, the prior's weight.
        sigma: Standard deviation of one step's noise in ln w, 0 or more.
        steps: Number of steps, 0 or more.
        generator: Source of eps, on the weights' device; None: torch's own.

    Returns:
        The weights after the steps, of the shape given; of the dtype given if that is floating,
        of torch's default dtype for integers.

    Raises:
        ValueError: A weight or a number out of its range.

    Example:
        >>> lognormal_process(torch.tensor([4.0]), 1.0, 0.5, 1.0, sigma=0.0, steps=1)
        tensor([2.])

    Source: the regularizer of docs/lmd.md for a log-normal prior; the process is ours.
    """
    keep = _kept_share(lr, regularization, sigma)
    dtype = weights.dtype if weights.is_floating_point() else torch.get_default_dtype()
    if not 0 < float(torch.tensor(m0, dtype=torch.float64).to(dtype)) < math.inf:
        raise ValueError(f"`m0` must be positive and finite, as a number of {dtype} too; got {m0}.")
    if steps < 0:
        raise ValueError(f"`steps` must be 0 or more; got {steps}.")
    positive = (weights > 0) & torch.isfinite(weights)
    if not bool(positive.all()):
        raise ValueError(
            "`weights` must be positive and finite; got "
            f"{weights.numel() - int(positive.sum())} of {weights.numel()} that are not. A weight "
            "w+ - w- is two such processes, one for each part."
        )
    x = torch.log(weights.detach() / m0)
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = keep * (x + sigma * noise)
    return m0 * torch.exp(x)


def stationary_std(lr: float, regularization: float, sigma: float) -> float:
    """Standard deviation of ln w to which `lognormal_process` tends.

        std = sigma a / sqrt(1 - a^2),  a = 1 - lr lam

    The fixed point of std^2 = a^2 (std^2 + sigma^2). It is sigma / sqrt(2 lr lam) for small steps:
    as wide as sigma itself at lr lam = 1 - sqrt(1/2) = 0.29.

    Args:
        lr: Learning rate; 0 < lr * regularization < 2.
        regularization: lam, the prior's weight.
        sigma: Standard deviation of one step's noise in ln w, 0 or more.

    Returns:
        The standard deviation (no unit); ln w is normal around ln m0 with it.

    Raises:
        ValueError: Numbers out of range; without a pull to m0 nothing is stationary.

    Example:
        >>> round(stationary_std(lr=0.08, regularization=0.1, sigma=0.1), 3)
        0.786
    """
    keep = abs(_kept_share(lr, regularization, sigma))
    return sigma * keep / math.sqrt((1 - keep) * (1 + keep))


def _kept_share(lr: float, regularization: float, sigma: float) -> float:
    """1 - lr lam, of size below 1."""
    pull = lr * regularization
    if not 0 < pull < 2:
        raise ValueError(
            "`lr` times `regularization` must lie in (0, 2), where the pull to m0 holds the "
            f"process; got {lr} * {regularization} = {pull:g}. At 0 the noise adds up forever."
        )
    if not 0 <= sigma < math.inf:
        raise ValueError(f"`sigma` must be 0 or more and finite; got {sigma}.")
    return 1 - pull
