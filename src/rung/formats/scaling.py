"""Checks and scales that every scaled format shares."""

from collections.abc import Callable

import torch
from torch import Tensor


def require_finite(x: Tensor) -> None:
    """Refuse anything but a real floating-point tensor without NaN and infinity.

    Raises:
        TypeError: Not a real floating-point tensor.
        ValueError: NaN or infinity in it; the text counts them.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"`x` must be a real floating-point tensor; got {got}.")
    bad = x.numel() - int(torch.isfinite(x).sum())
    if bad:
        raise ValueError(
            f"`x` must be finite; got {bad} NaN or infinite of {x.numel()} values. "
            "Find where they come from before encoding."
        )


def require_positive(scale: Tensor) -> None:
    """Refuse scales that are not positive and finite.

    Raises:
        ValueError: A scale is zero (an all-zero group), negative, NaN or infinite.
    """
    bad = int((~((scale > 0) & torch.isfinite(scale))).sum())
    if bad:
        raise ValueError(
            f"`scale` must be positive and finite; got {bad} of {scale.numel()} scales that are "
            "not. An all-zero tensor (or index of `axis`) has no scale: initialise it away from "
            "zero (rung.optim.init_zeros_) or keep it in floating point."
        )


def require_broadcast(scale: Tensor, shape: torch.Size) -> None:
    """Refuse scales that don't broadcast to a tensor's own shape.

    Raises:
        ValueError: More dimensions, or a size that is neither 1 nor the tensor's.
    """
    pairs = zip(reversed(scale.shape), reversed(shape), strict=False)
    if scale.ndim > len(shape) or any(size not in (1, full) for size, full in pairs):
        raise ValueError(
            f"`scale` must broadcast to the tensor's shape {tuple(shape)}; got shape "
            f"{tuple(scale.shape)}. Give one scale, or one per index of a dimension."
        )


def largest_magnitude(x: Tensor, axis: int | None) -> Tensor:
    """Largest |x|: 0-d, or of shape (1, ..., n, ..., 1) with one entry per index of `axis`.

    An empty tensor gets 1, so that it has a scale like any other.

    Raises:
        ValueError: x has no such axis.
    """
    if axis is None:
        return x.abs().amax() if x.numel() else torch.ones((), dtype=x.dtype, device=x.device)
    return keep_axis(x, axis, lambda other: x.abs().amax(dim=other, keepdim=True))


def root_mean_square(x: Tensor, axis: int | None) -> Tensor:
    """RMS of x in float32 (float64 for float64): 0-d, or one entry per index of `axis`."""
    wide = x.detach().to(torch.float64)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if axis is None:
        mean = wide.square().mean() if x.numel() else torch.ones((), dtype=torch.float64)
        return mean.sqrt().to(device=x.device, dtype=dtype)
    rms = keep_axis(x, axis, lambda other: wide.square().mean(dim=other, keepdim=True).sqrt())
    return rms.to(dtype)


def keep_axis(x: Tensor, axis: int, reduce: Callable[[list[int]], Tensor]) -> Tensor:
    """Reduce over every dimension but `axis`.

    Raises:
        ValueError: x has no such axis.
    """
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(
            f"`axis` must be a dimension of the tensor, from {-x.ndim} to {x.ndim - 1}; "
            f"got axis={axis} for shape {tuple(x.shape)}."
        )
    other = [dim for dim in range(x.ndim) if dim != axis % x.ndim]
    if not x.numel():
        shape = [x.shape[dim] if dim == axis % x.ndim else 1 for dim in range(x.ndim)]
        return torch.ones(shape, dtype=x.dtype, device=x.device)
    return reduce(other) if other else x.abs()
