"""How close a sample comes to a normal distribution: moments, and the Kolmogorov-Smirnov distance.

Applied to logarithms it tells how close a sample comes to a log-normal one.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class NormalFit:
    """The normal distribution of a sample's mean and standard deviation, and how well it fits."""

    mean: float
    """Mean."""
    std: float
    """Standard deviation (divided by n)."""
    skewness: float | None
    """Third standardised moment, 0 for a normal distribution; None where all values are equal."""
    excess_kurtosis: float | None
    """Fourth standardised moment less 3, 0 for a normal distribution; None likewise."""
    ks: float | None
    """Kolmogorov-Smirnov distance to the fit; None likewise."""


def normal_fit(values: Tensor) -> NormalFit:
    """Fit a normal distribution by its moments and measure what it misses.

        D = sup_x |F_n(x) - Phi((x - mean) / std)|

    Since mean and std come from the sample itself, the tables of the Kolmogorov-Smirnov test don't
    apply to D (Lilliefors' do); as a distance it needs none. For n normal values it is about
    0.6 / sqrt(n).

    Args:
        values: Any shape, at least one value, finite.

    Returns:
        A `NormalFit`, computed in float64.

    Raises:
        ValueError: No values, or one that isn't finite.

    Example:
        >>> fit = normal_fit(torch.tensor([-1.0, 1.0]))
        >>> fit.mean, fit.std, round(fit.ks, 4)
        (0.0, 1.0, 0.3413)
    """
    sample = values.detach().double().flatten()
    if not sample.numel() or not bool(torch.isfinite(sample).all()):
        found = "none" if not sample.numel() else "NaN or infinity"
        raise ValueError(
            f"`values` must hold finite numbers; got {found}. Leave out what has no logarithm."
        )
    mean = sample.mean()
    centred = sample - mean
    std = centred.square().mean().sqrt()
    # Equal values leave a rounding error of the mean, not a spread.
    if float(std) <= 1e-12 * max(1.0, abs(float(mean))):
        return NormalFit(float(mean), 0.0, None, None, None)
    standard, _ = (centred / std).sort()
    return NormalFit(
        mean=float(mean),
        std=float(std),
        skewness=float(standard.pow(3).mean()),
        excess_kurtosis=float(standard.pow(4).mean()) - 3.0,
        ks=_distance(standard),
    )


def _distance(ascending: Tensor) -> float:
    """The largest gap on either side of each step of the empirical distribution."""
    count = ascending.numel()
    expected = 0.5 * torch.erfc(-ascending / math.sqrt(2.0))
    after = torch.arange(1, count + 1, dtype=torch.float64, device=ascending.device) / count
    return float(torch.maximum(after - expected, expected - (after - 1.0 / count)).max())
