"""Deep relative trust: how far a gradient may change when every layer changes a little."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def trust_bound(weights_before: Sequence[Tensor], weights_after: Sequence[Tensor]) -> float:
    """Gradient breakdown that deep relative trust allows for a change of all layers.

    ``prod_l (1 + |dW_l|_F / |W_l|_F) - 1``. Under the update of Equation 3 every relative change
    is the learning rate, and this is ``(1 + lr)^L - 1``. It is a model, not a law: on small tanh
    networks the measured breakdown of a first step was 1.0 to 3.4 times as large.

    Args:
        weights_before: W_l of every layer, any shapes and floating dtypes.
        weights_after: W_l + dW_l, the same layers in the same order.

    Returns:
        The bound that is assumed on `gradient_breakdown` of any layer (no unit), at least 0.

    Raises:
        ValueError: No layers, unequal numbers of layers, unequal shapes, or a layer that is zero
            throughout or not finite before the change.

    Example:
        >>> layers = [torch.ones(3), torch.ones(2, 2)]
        >>> round(trust_bound(layers, [1.1 * layer for layer in layers]), 4)
        0.21

    References:
        Bernstein et al., "Learning compositional functions via multiplicative weight updates",
        arXiv:2006.14560, 2020, modelling assumption 1 (from arXiv:2002.03432).
    """
    if len(weights_before) != len(weights_after) or not weights_before:
        raise ValueError(
            "`weights_before` and `weights_after` must hold the same layers, at least one; got "
            f"{len(weights_before)} and {len(weights_after)}. Pass every layer to both."
        )
    pairs = zip(weights_before, weights_after, strict=True)
    return math.expm1(math.fsum(math.log1p(_relative_change(*pair)) for pair in pairs))


def gradient_breakdown(grad_before: Tensor, grad_after: Tensor) -> float:
    """Measured relative change of one layer's gradient.

    ``|g_k(W + dW) - g_k(W)|_F / |g_k(W)|_F``, the left side of Equation 2. Descent is guaranteed
    while it stays below cos theta_k along the whole step.

    Args:
        grad_before: g_k(W), any shape and floating dtype.
        grad_after: g_k(W + dW), the same shape, for the same data.

    Returns:
        The breakdown (no unit), at least 0; 0 says that the gradient did not change.

    Raises:
        ValueError: The shapes differ, or ``grad_before`` is zero throughout or not finite.

    Example:
        >>> gradient_breakdown(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 9.0]))
        1.0

    References:
        Bernstein et al., "Learning compositional functions via multiplicative weight updates",
        arXiv:2006.14560, 2020, Equation 2 and modelling assumption 1.
    """
    return _relative_change(grad_before, grad_after)


def _relative_change(before: Tensor, after: Tensor) -> float:
    if before.shape != after.shape:
        raise ValueError(
            f"a tensor must keep its shape; got {tuple(before.shape)} and {tuple(after.shape)}. "
            "Compare the same layer before and after."
        )
    start = before.detach().to(torch.float64)
    norm = float(torch.linalg.vector_norm(start))
    if norm == 0.0 or not math.isfinite(norm):
        raise ValueError(
            f"a relative change needs a finite norm above zero; got {norm}. Leave this layer out."
        )
    return float(torch.linalg.vector_norm(after.detach().to(torch.float64) - start)) / norm
