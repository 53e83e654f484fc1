"""Between a tensor and its groups of equal scale: what `Minifloat` and `FixedPoint` share."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rung.formats._encoded import Encoded
from rung.formats._source import CounterSource, resolve
from rung.formats.grouping import Axis, Groups, cut_of, groups_of, groups_of_scale
from rung.formats.scaling import all_finite, require_broadcast, require_finite, require_real
from rung.kernels import minifloat as kernel
from rung.kernels.cpu.plain import usable
from rung.kernels.draws import encode_words
from rung.kernels.mx_round import minifloat_cast, scale_back

NONFINITE = ("raise", "propagate", "saturate")


class Element(Protocol):
    """A format whose codes have values of their own, before any scale."""

    @property
    def grid(self) -> kernel.Grid:
        """The numbers that kernels take."""

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The fields of `grid`."""

    @property
    def largest(self) -> float:
        """Largest finite magnitude."""


@dataclass(frozen=True, eq=False)
class Split:
    """A tensor as rows of equal scale.

    Attributes:
        groups: How to get back.
        rows: Values, (groups, n), float32 (float64 for float64 input); NaN and infinity where the
            format keeps them, else 0 in groups of scale NaN.
        scale: Factor of a code's value, (groups, 1), same dtype; NaN for a group that can't hold
            what isn't finite in it.
        kept: Whether there may be NaN and infinity in the rows, to be kept.
    """

    groups: Groups
    rows: Tensor
    scale: Tensor
    kept: bool


def require_policy(nonfinite: str) -> None:
    """Refuse unknown policies for NaN and infinity.

    Raises:
        ValueError: Not one of the three.
    """
    if nonfinite not in NONFINITE:
        raise ValueError(
            f"`nonfinite` must be 'raise', 'propagate' or 'saturate'; got {nonfinite!r}."
        )


def require_no_nan(x: Tensor) -> None:
    """Refuse NaN: nothing to saturate to.

    Raises:
        ValueError: NaN in the tensor; the text counts them.
    """
    bad = int(torch.isnan(x).sum())
    if bad:
        raise ValueError(
            f"`x` must hold no NaN with nonfinite='saturate' (infinity alone saturates); got {bad} "
            f"NaN of {x.numel()} values. Find where they come from, or pass them on with "
            "nonfinite='propagate'."
        )


def split(
    fmt: Element,
    x: Tensor,
    axis: Axis,
    scale: Tensor | float | str | None,
    block: int | None,
    nonfinite: str,
) -> Split:
    """Rows and scales, with every check on values.

    Raises:
        ValueError, TypeError: See `Minifloat.encode`.
    """
    require_real(x)
    require_policy(nonfinite)
    groups, given = _groups(x, axis, scale, block)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    # Kernels read memory: a lazily negated view has not written its signs there.
    rows = groups.to_rows(x.detach().resolve_neg().to(dtype))
    finite, sizes = _look(rows, nonfinite)
    if not finite and nonfinite == "raise":
        require_finite(x)
    if not finite and nonfinite == "saturate":
        require_no_nan(x)
    if given is None:
        factors = _automatic(rows, sizes, finite, fmt.largest)
    else:
        factors = given.to(dtype).reshape(-1, 1).expand(rows.shape[0], 1)
    kept = False
    if not finite and nonfinite == "saturate":
        ends = (fmt.largest * factors).clamp(max=torch.finfo(dtype).max)
        rows = torch.where(torch.isinf(rows), torch.copysign(ends, rows), rows)
    elif not finite and nonfinite == "propagate":
        kept = fmt.grid.nan is not None
        if not kept:
            whole = torch.isfinite(sizes)
            rows = torch.where(whole, rows, 0.0)
            factors = torch.where(whole, factors, torch.nan)
    return Split(groups, rows, factors, kept)


def _look(rows: Tensor, nonfinite: str) -> tuple[bool, Tensor]:
    """Whether all values are known to be finite, and the largest magnitude of each row, (n, 1)."""
    if not rows.numel():
        return True, rows.new_zeros(rows.shape[0], 1)
    if usable(rows) and rows.dtype == torch.float32:
        sizes = largest_of_rows(rows)
        return all_finite(sizes), sizes
    sizes = rows.abs().amax(dim=1, keepdim=True)
    # A traced graph can't branch on values, and needn't.
    return nonfinite == "raise" and bool(torch.isfinite(sizes).all()), sizes


def largest_of_rows(rows: Tensor) -> Tensor:
    """Largest magnitude of each row of float32 on the CPU, (n, 1); NaN or infinite where x is."""
    if not rows.numel():
        return rows.new_zeros(rows.shape[0], 1)
    from rung.kernels.cpu.groups import largest_of_groups

    return largest_of_groups(rows, rows.shape[1])


def _groups(
    x: Tensor, axis: Axis, scale: Tensor | float | str | None, block: int | None
) -> tuple[Groups, Tensor | None]:
    """Groups, and given scales or None for automatic ones."""
    groups = groups_of(x, axis, block)  # refuses an axis that doesn't exist
    if isinstance(scale, str):
        if scale != "amax":
            raise ValueError(
                "`scale` must be the factor of a code's value, 'amax' (from the largest magnitude) "
                f"or None; got {scale!r}."
            )
        return groups, None
    if scale is None:
        if axis is None and block is None:
            return groups, torch.ones((), device=x.device)
        return groups, None
    given = torch.as_tensor(scale, device=x.device).detach()
    bad = int((~((given > 0) & torch.isfinite(given))).sum())
    if bad:
        raise ValueError(
            f"`scale` must be positive and finite; got {bad} of {given.numel()} scales that are "
            "not. Give the factor of a code's value, or scale='amax'."
        )
    if block is None:
        require_broadcast(given, x.shape)
    return groups_of_scale(x, given, block), given


def _automatic(rows: Tensor, sizes: Tensor, finite: bool, largest: float) -> Tensor:
    """Largest finite magnitude over the largest code, 1 for a group of zeros; (groups, 1)."""
    if not finite:
        sizes = torch.where(torch.isfinite(rows), rows.abs(), 0.0).amax(dim=1, keepdim=True)
    # A subnormal scale would lose digits, or all of them.
    scale = (sizes / largest).clamp(min=torch.finfo(rows.dtype).tiny)
    return torch.where(sizes > 0, scale, 1.0)


def draw(
    x: Tensor,
    groups: Groups,
    rounding: str,
    generator: torch.Generator | CounterSource | None,
) -> Tensor | None:
    """Words for stochastic rounding, one per element by its flat index in x; else None."""
    draws = flat_draws(x, rounding, generator)
    return None if draws is None else groups.to_rows(draws)


def flat_draws(
    x: Tensor, rounding: str, generator: torch.Generator | CounterSource | None
) -> Tensor | None:
    """Random words in the shape of x, or None for rounding to nearest."""
    key, offset = resolve(rounding, generator, x.device)
    if key is None:
        return None
    return encode_words(key, offset, x.numel()).reshape(x.shape)


def encode(
    fmt: Element, split: Split, x: Tensor, block: int | None, draws: Tensor | None
) -> Encoded:
    """Codes of the rows, in x's shape."""
    codes = kernel.codes_reference(_rounded(fmt, split, draws), fmt.grid)
    scale = split.scale.reshape(split.groups.scale_shape)
    return Encoded(split.groups.from_rows(codes).contiguous(), None, scale, x.dtype, block)


def plain_cast(fmt: Element, x: Tensor, nonfinite: str) -> Tensor | None:
    """`quantize` to nearest without a scale by two casts of torch, where those do the same."""
    native = kernel.native_dtype(fmt.grid)
    # A bfloat16 may be beyond float16's range; float64 would be rounded twice.
    safe = (torch.float32, torch.bfloat16, native)
    if native is None or x.dtype not in safe or x.device.type != "cpu":
        return None
    require_policy(nonfinite)
    rows = x.detach().resolve_neg().to(torch.float32).reshape(1, -1).contiguous()
    # NaN is not under the largest number.
    if not usable(rows) or not float(largest_of_rows(rows)) <= fmt.largest:
        return None
    return rows.to(native).to(x.dtype).reshape(x.shape)


def quantize(fmt: Element, split: Split, dtype: torch.dtype, draws: Tensor | None) -> Tensor:
    """Values of the rows, in the tensor's shape and dtype."""
    grid, rows, scale = fmt.grid, split.rows, split.scale
    if split.kept:
        values = finish(_rounded(fmt, split, draws), scale, grid, dtype)
    else:
        most = largest_of(dtype)
        values = minifloat_cast(rows, scale, draws, True, most, *fmt.numbers).to(dtype)
    return split.groups.from_rows(values)


def quantize_along(
    fmt: Element,
    x: Tensor,
    axis: Axis,
    rounding: str,
    generator: torch.Generator | CounterSource | None,
    scale: Tensor | float | str | None,
    block: int | None,
    nonfinite: str,
    dim: int,
) -> Tensor:
    """`Minifloat.quantize` of any tensor: blocks run along `dim`, draws stay with their elements.

    Raises:
        ValueError, TypeError: See `Minifloat.encode`.
    """
    if block is None:
        values = _quantize_whole(fmt, x, axis, rounding, generator, scale, nonfinite)
        if values is not None:
            return values
    along = block is not None and dim != -1
    moved = x.movedim(dim, -1) if along else x
    groups = split(fmt, moved, axis, scale, block, nonfinite)
    draws = flat_draws(x, rounding, generator)
    if draws is not None:
        draws = groups.groups.to_rows(draws.movedim(dim, -1) if along else draws)
    values = quantize(fmt, groups, x.dtype, draws)
    return values.movedim(-1, dim) if along else values


def _quantize_whole(
    fmt: Element,
    x: Tensor,
    axis: Axis,
    rounding: str,
    generator: torch.Generator | CounterSource | None,
    scale: Tensor | float | str | None,
    nonfinite: str,
) -> Tensor | None:
    """`quantize` of finite float32 on the CPU, groups in one piece, scales not given; or None."""
    require_real(x)
    require_policy(nonfinite)
    if not (scale is None or scale == "amax") or not usable(x) or x.dtype != torch.float32:
        return None
    cut = cut_of(x.shape, axis)
    if cut is None or cut.scale_rows not in (1, cut.rows):
        return None
    matrix = cut.matrix(x)
    matrix = matrix.view(1, -1) if cut.scale_rows == 1 else matrix
    sizes = largest_of_rows(matrix)
    if not all_finite(sizes):
        return None
    if scale is None and axis is None:
        factors = torch.ones_like(sizes)
    else:
        factors = _automatic(matrix, sizes, True, fmt.largest)
    words = flat_draws(x, rounding, generator)
    words = None if words is None else words.view(matrix.shape)
    most = largest_of(x.dtype)
    values: Tensor = minifloat_cast(matrix, factors, words, True, most, *fmt.numbers)
    return values.view(x.shape)


def _rounded(fmt: Element, split: Split, draws: Tensor | None) -> Tensor:
    """Values of the rows' codes, before the scale."""
    grid, rows, scale = fmt.grid, split.rows, split.scale
    rounded: Tensor = minifloat_cast(rows, scale, draws, False, 0.0, *fmt.numbers)
    if not split.kept:
        return rounded
    rounded = torch.where(torch.isnan(rows), rows, rounded)
    infinite = rows if grid.infinity is not None else torch.nan * rows
    return torch.where(torch.isinf(rows), infinite, rounded)


def decode(fmt: Element, encoded: Encoded) -> Tensor:
    """Values of codes, in the dtype of the tensor that was encoded."""
    scale = encoded.scale
    if encoded.block is not None:
        length = encoded.codes.shape[-1]
        block = min(encoded.block, max(1, length))
        scale = scale.repeat_interleave(block, dim=-1)[..., :length]
    values = kernel.values_reference(encoded.codes, fmt.grid, scale.dtype)
    return finish(values, scale, fmt.grid, encoded.dtype)


def finish(values: Tensor, scale: Tensor, grid: kernel.Grid, dtype: torch.dtype) -> Tensor:
    """Values of codes times their scale; what is finite stays finite in the dtype."""
    return scale_back(values, scale, grid, largest_of(dtype)).to(dtype)


def largest_of(dtype: torch.dtype) -> float:
    """Largest number of a dtype that is one of the dtype that is computed in, too."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return min(torch.finfo(dtype).max, torch.finfo(wide).max)
