"""The angle of Theorem 1: how far the sizes of weights and gradients point apart."""

import math

import torch
from torch import Tensor


def angle(weight: Tensor, grad: Tensor) -> float:
    """Angle gamma_k between the elementwise sizes of a layer's weights and of its gradient.

    ``gamma_k = angle(|W_k|, |g_k(W)|)``. It is also the angle between the multiplicative update
    (Equation 3) and the negative gradient. Weights stored in codes are read at their decoded
    values. Computed in float64 by ``2 atan2(|u - v|, |u + v|)`` of the two unit vectors, which
    stays exact near 0, where arccos loses half of the digits.

    Args:
        weight: Weights W_k of one layer, any shape and floating dtype.
        grad: Gradient g_k of the loss with respect to ``weight``, the same shape.

    Returns:
        The angle in radians, from 0 (sizes proportional) to pi/2 (no weight with a gradient).

    Raises:
        ValueError: The shapes differ; or the angle is undefined because one of the two is zero
            throughout, empty, or not finite.

    Example:
        >>> round(angle(torch.tensor([1.0, -1.0]), torch.tensor([-2.0, 0.0])), 6)
        0.785398

    References:
        Bernstein et al., "Learning compositional functions via multiplicative weight updates",
        arXiv:2006.14560, 2020, section 3.3 and Theorem 1.
    """
    if weight.shape != grad.shape:
        raise ValueError(
            f"`weight` and `grad` must have one shape; got {tuple(weight.shape)} and "
            f"{tuple(grad.shape)}. Pass the gradient of this very parameter."
        )
    u = _unit_of_sizes(weight, "weight")
    v = _unit_of_sizes(grad, "grad")
    apart = float(torch.linalg.vector_norm(u - v))
    along = float(torch.linalg.vector_norm(u + v))
    return min(2.0 * math.atan2(apart, along), math.pi / 2)


def _unit_of_sizes(tensor: Tensor, name: str) -> Tensor:
    sizes = tensor.detach().abs().to(torch.float64).flatten()
    largest = float(sizes.max()) if sizes.numel() else 0.0
    if largest == 0.0 or not math.isfinite(largest):
        found = "zero throughout" if largest == 0.0 else "NaN or infinity"
        raise ValueError(
            f"`{name}` must be finite and hold a value other than zero; got {found}. "
            "The angle is undefined here: leave this layer out."
        )
    # Divided by the largest first, so that the squares neither overflow nor vanish.
    sizes = sizes / largest
    norm: Tensor = torch.linalg.vector_norm(sizes)
    return sizes / norm
