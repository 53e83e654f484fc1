"""Theorem 1: the learning rate below which a multiplicative update must decrease the loss."""

import math
from collections.abc import Sequence


def descent_bound(angles: Sequence[float], depth: int | None = None) -> float:
    """Largest learning rate that Theorem 1 guarantees descent for.

    ``lr < min_k (1 + cos gamma_k)^(1/L) - 1``. The theorem is about Equation 3, where every weight
    changes by a factor 1 +- lr, on the full loss, and holds for networks that obey deep relative
    trust. Real networks obey it only roughly (`gradient_breakdown` measures it), so a step below
    the bound may still raise the loss; and a run above the bound can still learn.

    Args:
        angles: gamma_k of every layer in radians, each from 0 to pi/2 (see `rung.theory.angle`).
        depth: L, number of layers of the network, at least 1. Default: ``len(angles)``.

    Returns:
        The bound, a relative change per step (no unit), from 0 (some angle is pi/2) to 1.

    Raises:
        ValueError: ``angles`` is empty, an angle is outside 0 to pi/2, or ``depth`` is below 1.

    Example:
        >>> round(descent_bound([math.pi / 4] * 50), 4)
        0.0108

    References:
        Bernstein et al., "Learning compositional functions via multiplicative weight updates",
        arXiv:2006.14560, 2020, Theorem 1.
    """
    if len(angles) == 0:
        raise ValueError(
            "`angles` must hold at least one angle; got none. "
            "Measure a layer whose weights and gradient are not zero."
        )
    layers = len(angles) if depth is None else depth
    if layers < 1:
        raise ValueError(f"`depth` must be at least 1; got {depth}. Count the network's layers.")
    for gamma in angles:
        # Written so that NaN is refused too; the last bit of pi/2 is forgiven.
        if not 0.0 <= gamma <= math.pi / 2 + 1e-12:
            raise ValueError(
                f"`angles` must lie between 0 and pi/2 radians; got {gamma}. "
                "Convert degrees with math.radians."
            )
    # The least cosine gives the minimum; expm1 and log1p keep the digits of small bounds.
    least_cosine = max(0.0, min(math.cos(gamma) for gamma in angles))
    return math.expm1(math.log1p(least_cosine) / layers)
