"""Calibration: whether probabilities that a classifier states are those that come true."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Sums of float32 probabilities over many classes miss 1 by a little; those of bfloat16 by so much
# that likelihoods of theirs mean little.
_SUM_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predictions whose confidence lies in (low, high]."""

    low: float
    """Lower end, left out."""
    high: float
    """Upper end."""
    count: int
    """Predictions in the bin."""
    confidence: float | None
    """Mean probability of the predicted class; None in an empty bin."""
    accuracy: float | None
    """Share of right predictions; None in an empty bin."""


def negative_log_likelihood(probabilities: Tensor, targets: Tensor) -> float:
    """Mean of -ln p(target): the cross entropy, from probabilities.

    Args:
        probabilities: p, shape (..., classes), floating, each row summing to 1 within 1e-4, as a
            softmax in float32 or float64 does and one in bfloat16 or float16 may not.
        targets: Shape (...), integers from 0 to classes - 1.

    Returns:
        Nats, from 0; infinite where a target had probability 0.

    Raises:
        ValueError: Shapes that don't fit, no predictions, a value that is no probability, rows
            that don't sum to 1 within 1e-4, or a target beyond the classes.
        TypeError: Targets that aren't integers.

    Example:
        >>> round(negative_log_likelihood(torch.tensor([[0.5, 0.5]]), torch.tensor([1])), 4)
        0.6931
    """
    rows, wanted = _checked(probabilities, targets)
    return float(-rows.gather(1, wanted[:, None]).log().mean())


def reliability(
    probabilities: Tensor, targets: Tensor, bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """Accuracy beside confidence, in bins of equal width over the confidence.

    A prediction is the class of the largest probability (of equal ones the first); that
    probability is its confidence. Bin i of n holds the confidences in (i / n, (i + 1) / n].

    Args:
        probabilities: As for `negative_log_likelihood`.
        targets: Likewise.
        bins: n, an integer of at least 1.

    Returns:
        One entry for each bin, empty ones included.

    Raises:
        ValueError: As `negative_log_likelihood`; `bins` that are no integer, or below 1.
        TypeError: Targets that aren't integers.

    References:
        Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks",
        arXiv:1706.04599, 2017, section 2.
    """
    if not isinstance(bins, int) or isinstance(bins, bool) or bins < 1:
        raise ValueError(f"`bins` must be an integer of at least 1; got {bins}. 15 are usual.")
    rows, wanted = _checked(probabilities, targets)
    confidence, predicted = rows.max(dim=1)
    right = (predicted == wanted).double()
    edges = torch.arange(bins + 1, dtype=torch.float64, device=rows.device) / bins
    # Bins are open on the left. The ends take what rounding has put outside.
    place = (torch.bucketize(confidence, edges) - 1).clamp(0, bins - 1)
    counts = torch.bincount(place, minlength=bins)
    stated = torch.bincount(place, confidence, minlength=bins) / counts
    came_true = torch.bincount(place, right, minlength=bins) / counts
    return tuple(
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int(counts[i]),
            confidence=float(stated[i]) if counts[i] else None,
            accuracy=float(came_true[i]) if counts[i] else None,
        )
        for i in range(bins)
    )


def expected_calibration_error(probabilities: Tensor, targets: Tensor, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over the bins of `reliability`.

        ECE = sum_b (n_b / n) |accuracy_b - confidence_b|

    Args:
        probabilities: As for `negative_log_likelihood`.
        targets: Likewise.
        bins: Number of bins; values of different numbers don't compare.

    Returns:
        From 0 (calibrated, as far as the bins can tell) to 1.

    Raises:
        ValueError: As `reliability`.
        TypeError: Targets that aren't integers.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
        >>> round(expected_calibration_error(probabilities, torch.tensor([0, 1])), 4)
        0.4

    References:
        Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    table = reliability(probabilities, targets, bins)
    total = sum(row.count for row in table)
    return sum(
        row.count * abs(row.accuracy - row.confidence) / total
        for row in table
        if row.accuracy is not None and row.confidence is not None
    )


def _checked(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, classes) in float64, and targets (N,)."""
    if not probabilities.ndim or probabilities.shape[:-1] != targets.shape:
        raise ValueError(
            "`probabilities` must have the shape of `targets` and a last dimension of classes; got "
            f"{tuple(probabilities.shape)} and {tuple(targets.shape)}. Pass one target a row."
        )
    if not probabilities.numel():
        raise ValueError(
            "`probabilities` must hold at least one prediction; got shape "
            f"{tuple(probabilities.shape)}. Leave an empty set out."
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(
            f"`targets` must be integers, the classes' numbers; got {targets.dtype}. "
            "For one-hot rows pass targets.argmax(-1)."
        )
    rows = probabilities.detach().double().reshape(-1, probabilities.shape[-1])
    wanted = targets.to(rows.device).long().flatten()
    low, high = rows.min(), rows.max()
    # Written so that NaN is refused too.
    if not (bool(low >= 0) and bool(high <= 1 + _SUM_TOLERANCE)):
        raise ValueError(
            f"`probabilities` must lie between 0 and 1; got {float(low):g} to {float(high):g}. "
            "Pass logits through softmax first."
        )
    worst = float((rows.sum(1) - 1).abs().max())
    if worst > _SUM_TOLERANCE:
        raise ValueError(
            f"`probabilities` must sum to 1 over the last dimension, within {_SUM_TOLERANCE:g}; "
            f"got a sum {worst:g} away from it. Pass logits through softmax first, in float32 or "
            "float64."
        )
    if bool((wanted < 0).any()) or bool((wanted >= rows.shape[1]).any()):
        raise ValueError(
            f"`targets` must lie between 0 and {rows.shape[1] - 1}; got {int(wanted.min())} to "
            f"{int(wanted.max())}. Leave out what has no class."
        )
    return rows, wanted
