"""What rounding does to one step of training: additive and multiplicative rules, in octaves.

Let W lie on a logarithmic grid of base factor gamma, so that log2|W| is a multiple of 1/gamma
above the grid's origin. A step moves it by d octaves, and nearest rounding puts it on the grid
again. With r(t) the distance of t from the nearest integer, and away from the ends of the range,

    error = |log2|Q(W')| - log2|W'|| = r(gamma d) / gamma <= min(d, 1 / (2 gamma)).

- Multiplicative, W' = W 2^(-lr sign(W) u): d = lr |u|. No |W| in it: not the error nor the share
  error / d of the step that is lost. All of the step is lost while gamma lr |u| < 1/2; after that
  the share is at most 1 / (2 gamma lr |u|).
- Additive, W' = W - lr g: d = |log2|1 - lr g / W||, about lr |g| / (|W| ln 2). The error keeps to
  1 / (2 gamma) here too, and for large |W| falls to d itself: all of the step is lost where
  gamma d < 1/2, that is for |W| > 2 gamma lr |g| / ln 2. The share lost grows with |W| until it
  is 1.

So a bound on the error alone doesn't tell the rules apart on a logarithmic grid; the share lost
does, and it is what stops learning. On a grid of equal spacing D the rules change places: there an
additive step is lost where lr |g| < D/2 whatever |W|, and a multiplicative one for small |W|, where
|W| lr |u| ln 2 < D/2.
"""

import torch
from torch import Tensor

from rung.formats import Format, get


def additive_step(weight: Tensor, grad: Tensor, lr: float) -> Tensor:
    """W - lr * g, one step of gradient descent; any shape, before rounding.

    Args:
        weight: W.
        grad: g, or whatever an additive rule moves along; broadcastable.
        lr: Step in units of W per unit of g.
    """
    return weight - lr * grad


def multiplicative_step(weight: Tensor, update: Tensor, lr: float) -> Tensor:
    """W * 2^(-lr * sign(W) * u), one step of Madam in octaves; any shape, before rounding.

    Args:
        weight: W.
        update: u, the normalised gradient (typically 1 in size); broadcastable.
        lr: Change of log2|W| for |u| = 1.
    """
    return weight * torch.exp2(-lr * weight.sign() * update)


def quantization_error(
    updated: Tensor,
    format: str | Format,
    *,
    scale: Tensor | float | None = None,
    axis: int | tuple[int, ...] | None = None,
) -> Tensor:
    """Error of rounding a weight after its step: |log2|Q(W')| - log2|W'||, in octaves.

    At most 1 / (2 gamma) inside the range of an LNS, whatever moved the weight. Where W' is 0 the
    error is 0 if Q keeps it, else infinite.

    Args:
        updated: W' after a step and before rounding, any shape, finite.
        format: Name of a format or a format; nearest rounding.
        scale: Of the format, broadcastable to W'. Default: the format's own choice from W'. To
            measure one step of training, the scale under which W lay on the grid.
        axis: For the default scale, as in ``format.quantize``.

    Returns:
        float64, of the shape of W', >= 0.

    Raises:
        ValueError: An unknown format; what the format refuses (NaN, infinity, no such axis).

    Example:
        >>> x = torch.tensor([1.0, 2 ** (0.25 / 8)])
        >>> [round(float(value), 5) for value in quantization_error(x, "lns8", scale=2.0)]
        [0.0, 0.03125]

    Source: Zhao et al. 2022, "LNS-Madam", arXiv:2106.13914.
    """
    exact = updated.detach().double()
    fmt = get(format)
    rounded = fmt.quantize(exact, axis, scale=scale)
    return _octaves_between(rounded, exact)


def lost_share(
    before: Tensor,
    updated: Tensor,
    format: str | Format,
    *,
    scale: Tensor | float | None = None,
    axis: int | tuple[int, ...] | None = None,
) -> Tensor:
    """Error of rounding as a share of the step: `quantization_error` / |log2|W'| - log2|W||.

    0 keeps the step as it was meant and 1 loses it whole; up to 1 for W on the grid of the same
    scale. Grows with |W| for additive steps and does not for multiplicative ones: see the head of
    this module. 0 where there was neither a step nor an error; 1, the limit, for a step to exactly
    0 that a format without a zero can't follow.

    Args:
        before: W before the step, not 0, on the format's grid.
        updated: W' after the step and before rounding, the same shape.
        format: As for `quantization_error`, with `scale` and `axis`.
        scale: The scale under which `before` lies on the grid.
        axis: For the default scale.

    Returns:
        float64, of the shape of W', >= 0.

    Raises:
        ValueError: The shapes differ; an unknown format; what the format refuses.

    Example:
        >>> before = torch.tensor([1.0, 1.0])
        >>> updated = torch.tensor([2 ** (0.25 / 8), 2 ** (3.75 / 8)])
        >>> share = lost_share(before, updated, "lns8", scale=2.0)
        >>> [round(float(value), 4) for value in share]
        [1.0, 0.0667]

    Source: Zhao et al. 2022, "LNS-Madam", arXiv:2106.13914; the share is ours.
    """
    if before.shape != updated.shape:
        raise ValueError(
            f"`before` and `updated` must have one shape; got {tuple(before.shape)} and "
            f"{tuple(updated.shape)}. Pass the same weights before and after their step."
        )
    error = quantization_error(updated, format, scale=scale, axis=axis)
    step = _octaves_between(updated.detach().double(), before.detach().double())
    share = torch.where(error == 0, 0.0, error / step)
    return torch.where(step.isinf() & error.isinf(), 1.0, share)


def _octaves_between(a: Tensor, b: Tensor) -> Tensor:
    """|log2|a| - log2|b||; 0 where the two are equal, zeros included."""
    return torch.where(a == b, 0.0, (a.abs().log2() - b.abs().log2()).abs())
