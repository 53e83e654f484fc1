"""Between a tensor and its groups of equal scale: what `LNS` does before and after the kernels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rung.formats._source import CounterSource, resolve
from rung.formats.grouping import Axis, Groups, groups_of, groups_of_scale
from rung.formats.scaling import power_of_two_above, require_broadcast, require_real
from rung.kernels import lns as reference
from rung.kernels.cpu import lns as cpu
from rung.kernels.philox import PURPOSE_ENCODE, uniform

if TYPE_CHECKING:
    from rung.formats.lns import LNS


@dataclass(frozen=True, eq=False)
class Split:
    """A tensor as rows of equal scale.

    Attributes:
        groups: How to get back.
        rows: Values, (groups, n), float32 (float64 for float64 input).
        scale: Value of the largest code, (groups, 1), same dtype; NaN for a group that isn't
            finite.
    """

    groups: Groups
    rows: Tensor
    scale: Tensor

    def scale_of(self, x: Tensor) -> Tensor:
        """The scales in the shape in which they are stored."""
        return self.scale.reshape(self.groups.scale_shape)


def split(
    fmt: "LNS",
    x: Tensor,
    axis: Axis,
    scale: Tensor | float | None,
    block: int | None,
    nonfinite: str,
) -> Split:
    """Rows and scales, with every check on values.

    Raises:
        ValueError, TypeError: See `LNS.encode`.
    """
    require_real(x)
    if nonfinite not in ("raise", "propagate"):
        raise ValueError(f"`nonfinite` must be 'raise' or 'propagate'; got {nonfinite!r}.")
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    if scale is None:
        groups, given = groups_of(x, axis, block), None
    else:
        groups_of(x, axis, block)  # refuses an axis that doesn't exist
        given = torch.as_tensor(scale, dtype=dtype, device=x.device).detach()
        _require_scale(given)
        if block is None:
            require_broadcast(given, x.shape)
        groups = groups_of_scale(x, given, block)
    # Kernels read memory: a lazily negated view has not written its signs there.
    rows = groups.to_rows(x.detach().resolve_neg().to(dtype))
    largest = _largest(rows)
    finite = torch.isfinite(largest)
    if nonfinite == "raise" and not bool(finite.all()):
        bad = x.numel() - int(torch.isfinite(x).sum())
        raise ValueError(
            f"`x` must be finite; got {bad} NaN or infinite of {x.numel()} values. Find where they "
            "come from, or pass them on as NaN with nonfinite='propagate'."
        )
    if given is not None:
        largest = given.reshape(-1, 1).expand(rows.shape[0], 1).contiguous()
    elif fmt.power_of_two_scale:
        largest = power_of_two_above(largest, x.dtype)
    return Split(groups, rows, torch.where(finite, largest, torch.nan))


def _largest(rows: Tensor) -> Tensor:
    if not rows.shape[1]:
        # An empty tensor has a scale like any other.
        return torch.ones(rows.shape[0], 1, dtype=rows.dtype, device=rows.device)
    if cpu.usable(rows):
        return cpu.largest_magnitudes(rows)
    return rows.abs().amax(dim=1, keepdim=True)


def _require_scale(scale: Tensor) -> None:
    bad = int((~((scale >= 0) & torch.isfinite(scale))).sum())
    if bad:
        raise ValueError(
            f"`scale` must be 0 or positive, and finite; got {bad} of {scale.numel()} scales that "
            "are not. Give the value of the largest code, or leave it out."
        )


def narrow(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values in the dtype of the input; a finite value stays finite (float16 ends at 65504)."""
    if values.dtype == dtype:
        return values
    most = torch.finfo(dtype).max
    return values.clamp(-most, most).to(dtype)


def draw(
    x: Tensor,
    split: Split,
    rounding: str,
    generator: torch.Generator | CounterSource | None,
) -> Tensor | None:
    """Uniforms for stochastic rounding, one per element by its flat index in x; else None."""
    key, offset = resolve(rounding, generator, x.device)
    if key is None:
        return None
    draws = uniform(key, offset, x.numel(), 0, PURPOSE_ENCODE).reshape(x.shape)
    return split.groups.to_rows(draws)


def encode(fmt: "LNS", split: Split, draws: Tensor | None) -> Tensor:
    """Stored codes of the rows."""
    if cpu.usable(split.rows, split.scale):
        return cpu.encode(split.rows, split.scale, fmt.grid, draws)
    return reference.encode_reference(split.rows, split.scale, fmt.grid, draws)


def quantize(fmt: "LNS", split: Split, draws: Tensor | None) -> Tensor:
    """Values of the rows on the rungs."""
    if cpu.usable(split.rows, split.scale):
        return cpu.quantize(split.rows, split.scale, fmt.grid, draws)
    codes = reference.encode_reference(split.rows, split.scale, fmt.grid, draws)
    return reference.decode_reference(codes, split.scale, fmt.grid)
