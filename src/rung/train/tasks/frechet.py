"""The Frechet distance between two normal distributions, and their moments from features."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Mean and covariance of a set of feature vectors, float64, on the CPU.

    Attributes:
        mean: Shape (D,).
        covariance: Shape (D, D).
    """

    mean: Tensor
    covariance: Tensor

    @property
    def finite(self) -> bool:
        """Whether all numbers are finite."""
        return bool(torch.isfinite(self.mean).all() and torch.isfinite(self.covariance).all())


def moments(features: Tensor) -> Moments:
    """Mean and unbiased covariance of feature vectors.

    Args:
        features: Shape (N, D), at least two rows.

    Raises:
        ValueError: Another shape, or fewer rows.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(
            f"`features` must have shape (N, D) with N of at least 2; got {tuple(features.shape)}. "
            "A covariance takes two images or more."
        )
    wide = features.detach().to("cpu", torch.float64)
    mean = wide.mean(0)
    centred = wide - mean
    return Moments(mean, centred.T @ centred / (len(wide) - 1))


def frechet_distance(first: Moments, second: Moments) -> float:
    """Squared Frechet distance of two normal distributions.

        |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1^1/2 S2 S1^1/2)^1/2

    Args:
        first: Moments m1, S1.
        second: Moments m2, S2, of as many features.

    Returns:
        The distance, at least 0; for equal moments 0 up to rounding.

    Raises:
        ValueError: The numbers of features differ.

    Source: M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
    Equilibrium", arXiv:1706.08500, 2017, equation 6.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            f"Both moments must be of the same features; got {len(first.mean)} and "
            f"{len(second.mean)} of them. Take them from one network."
        )
    shift = (first.mean - second.mean).square().sum()
    root = _root(first.covariance)
    # Similar to S1 S2 and symmetric: its eigenvalues are real, and their roots sum to the trace.
    middle = root @ second.covariance @ root
    eigenvalues = torch.linalg.eigvalsh((middle + middle.T) / 2)
    cross = eigenvalues.clamp_min(0).sqrt().sum()
    traces = first.covariance.trace() + second.covariance.trace()
    return float((shift + traces - 2 * cross).clamp_min(0))


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root; eigenvalues that rounding made negative count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root
