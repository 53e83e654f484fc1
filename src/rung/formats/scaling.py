"""Checks and scales that every scaled format shares."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rung.formats.grouping import Axis, groups_of
from rung.kernels.group_scales import power_of_two_above as power_of_two_above


def require_real(x: Tensor) -> None:
    """Refuse anything but a real floating-point tensor.

    Raises:
        TypeError: Not a real floating-point tensor.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"`x` must be a real floating-point tensor; got {got}.")


def require_finite(x: Tensor) -> None:
    """Refuse anything but a real floating-point tensor without NaN and infinity.

    Raises:
        TypeError: Not a real floating-point tensor.
        ValueError: NaN or infinity in it; the text counts them.
    """
    require_real(x)
    bad = x.numel() - int(torch.isfinite(x).sum())
    if bad:
        raise ValueError(
            f"`x` must be finite; got {bad} NaN or infinite of {x.numel()} values. "
            "Find where they come from before encoding."
        )


def all_finite(x: Tensor) -> bool:
    """Whether all of a few numbers are finite; one small operation where they are."""
    if x.numel() == 1:
        return math.isfinite(x.item())
    # Not even the largest float32 overflow in float64.
    return math.isfinite(x.sum(dtype=torch.float64).item()) or bool(torch.isfinite(x).all())


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


def largest_magnitude(x: Tensor, axis: Axis) -> Tensor:
    """Largest |x|: 0-d, or of shape (1, ..., n, ..., 1) with one entry per index of `axis`.

    An empty tensor gets 1, so that it has a scale like any other.

    Raises:
        ValueError: x has no such axis.
    """
    if axis is None:
        return x.abs().amax() if x.numel() else torch.ones((), dtype=x.dtype, device=x.device)
    return keep_axis(x, axis, lambda other: x.abs().amax(dim=other, keepdim=True))


def root_mean_square(x: Tensor, axis: Axis) -> Tensor:
    """RMS of x in float32 (float64 for float64): 0-d, or one entry per index of `axis`."""
    wide = x.detach().to(torch.float64)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if axis is None:
        mean = wide.square().mean() if x.numel() else torch.ones((), dtype=torch.float64)
        return mean.sqrt().to(device=x.device, dtype=dtype)
    rms = keep_axis(x, axis, lambda other: wide.square().mean(dim=other, keepdim=True).sqrt())
    return rms.to(dtype)


def keep_axis(x: Tensor, axis: Axis, reduce: Callable[[list[int]], Tensor]) -> Tensor:
    """Reduce over every dimension but those of `axis`.

    Raises:
        ValueError: x has no such axis.
    """
    groups = groups_of(x, axis)
    if not x.numel():
        return torch.ones(groups.scale_shape, dtype=x.dtype, device=x.device)
    other = [dim for dim in range(x.ndim) if dim not in groups.kept]
    return reduce(other) if other else x.abs()
