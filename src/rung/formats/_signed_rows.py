"""Between a tensor and its groups of equal scale: around the kernels of codes that hold signs."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rung.formats._encoded import Encoded
from rung.formats._source import CounterSource, resolve
from rung.formats.grouping import Axis, Groups, cut_of, groups_of, groups_of_scale
from rung.formats.scaling import all_finite, require_broadcast, require_real
from rung.kernels.draws import encode_draws
from rung.kernels.group_scales import GIVEN, LARGEST, POWER_OF_TWO, READY, power_of_two_above


class Signed(Protocol):
    """A format whose codes hold the sign: `LNS`, `Sinh` or `Pair`."""

    @property
    def power_of_two_scale(self) -> bool:
        """Whether scales that aren't given are rounded up to a power of two."""

    def round_rows(
        self,
        rows: Tensor,
        scale: Tensor | None,
        source: int,
        draws: Tensor | None,
        block: int,
        scale_rows: int,
        codes: bool,
    ) -> tuple[Tensor, Tensor]:
        """Values or stored codes of a matrix, and scales; see `kernels.lns_round`."""


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


def require_policy(nonfinite: str) -> None:
    """Refuse unknown policies for NaN and infinity.

    Raises:
        ValueError: Neither of the two.
    """
    if nonfinite not in ("raise", "propagate"):
        raise ValueError(f"`nonfinite` must be 'raise' or 'propagate'; got {nonfinite!r}.")


def split(
    fmt: Signed,
    x: Tensor,
    axis: Axis,
    scale: Tensor | float | None,
    block: int | None,
    nonfinite: str,
) -> Split:
    """Rows and scales, with every check on values.

    Raises:
        ValueError, TypeError: See the format's `encode`.
    """
    require_real(x)
    require_policy(nonfinite)
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
    if nonfinite == "raise" and not all_finite(largest):
        _refuse(x)
    if given is not None:
        largest = given.reshape(-1, 1).expand(rows.shape[0], 1).contiguous()
    elif fmt.power_of_two_scale:
        largest = power_of_two_above(largest, x.dtype)
    return Split(groups, rows, torch.where(finite, largest, torch.nan))


def _refuse(x: Tensor) -> None:
    bad = x.numel() - int(torch.isfinite(x).sum())
    raise ValueError(
        f"`x` must be finite; got {bad} NaN or infinite of {x.numel()} values. Find where they "
        "come from, or pass them on as NaN with nonfinite='propagate'."
    )


def fused(
    fmt: Signed,
    x: Tensor,
    axis: Axis,
    rounding: str,
    generator: torch.Generator | CounterSource | None,
    scale: Tensor | float | None,
    block: int | None,
    nonfinite: str,
    codes: bool,
) -> tuple[Tensor, Tensor] | None:
    """Values or codes in x's shape and the scales, scales and rounding in one; None if it can't.

    For groups that lie in one piece in memory. Scales are a matrix.

    Raises:
        ValueError, TypeError: See the format's `encode`.
    """
    require_real(x)
    require_policy(nonfinite)
    given, source = None, LARGEST
    if scale is not None:
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        given, source = torch.as_tensor(scale, dtype=dtype, device=x.device).detach(), GIVEN
        _require_scale(given)
        groups_of(x, axis, block)  # refuses an axis that doesn't exist
        if block is None:
            require_broadcast(given, x.shape)
        cut = groups_of_scale(x, given, block).cut()
        given = None if cut is None else given.reshape(cut.scale_rows, -1)
    else:
        cut = cut_of(x.shape, axis, block)
        if fmt.power_of_two_scale:
            source = POWER_OF_TWO
    if cut is None or (source == POWER_OF_TWO and x.dtype == torch.float16):
        return None  # the largest power of two is another one there
    key, offset = resolve(rounding, generator, x.device)
    matrix, draws = cut.matrix(x), None
    if key is not None:
        draws = encode_draws(key, offset, x.numel()).reshape(matrix.shape)
    out, scales = fmt.round_rows(matrix, given, source, draws, block or 0, cut.scale_rows, codes)
    if nonfinite == "raise" and not all_finite(scales):
        _refuse(x)
    if not codes:
        out = narrow(out, x.dtype)
    return (out if cut.same else out.view(x.shape)), scales


def scale_shape(
    x: Tensor, axis: Axis, block: int | None, scale: Tensor | float | None
) -> tuple[int, ...]:
    """Shape in which scales are stored."""
    if scale is not None:
        return tuple(scale.shape) if isinstance(scale, Tensor) else ()
    cut = cut_of(x.shape, axis, block)
    assert cut is not None
    return cut.scale_shape


def _largest(rows: Tensor) -> Tensor:
    if not rows.shape[1]:
        # An empty tensor has a scale like any other.
        return torch.ones(rows.shape[0], 1, dtype=rows.dtype, device=rows.device)
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
    """Draws for stochastic rounding, one per element by its flat index in x; else None."""
    key, offset = resolve(rounding, generator, x.device)
    if key is None:
        return None
    return split.groups.to_rows(encode_draws(key, offset, x.numel()).reshape(x.shape))


def round_split(fmt: Signed, split: Split, draws: Tensor | None, codes: bool) -> Tensor:
    """Values (or stored codes) of the rows."""
    out, _ = fmt.round_rows(split.rows, split.scale, READY, draws, 0, 0, codes)
    return out


def encode(
    fmt: Signed,
    x: Tensor,
    axis: Axis,
    rounding: str,
    generator: torch.Generator | CounterSource | None,
    scale: Tensor | float | None,
    block: int | None,
    nonfinite: str,
) -> Encoded:
    """Codes and scales of a tensor.

    Raises:
        ValueError, TypeError: See the format's `encode`.
    """
    fast = fused(fmt, x, axis, rounding, generator, scale, block, nonfinite, True)
    if fast is not None:
        codes, scales = fast
        scales = scales.view(scale_shape(x, axis, block, scale))
        return Encoded(codes, None, scales, x.dtype, block)
    parts = split(fmt, x, axis, scale, block, nonfinite)
    codes = round_split(fmt, parts, draw(x, parts, rounding, generator), True)
    codes = parts.groups.from_rows(codes).contiguous()
    return Encoded(codes, None, parts.scale_of(x), x.dtype, block)


def quantize(
    fmt: Signed,
    x: Tensor,
    axis: Axis,
    rounding: str,
    generator: torch.Generator | CounterSource | None,
    scale: Tensor | float | None,
    block: int | None,
    nonfinite: str,
) -> Tensor:
    """Values of a tensor's codes, in its dtype.

    Raises:
        ValueError, TypeError: See the format's `encode`.
    """
    fast = fused(fmt, x, axis, rounding, generator, scale, block, nonfinite, False)
    if fast is not None:
        return fast[0]
    parts = split(fmt, x, axis, scale, block, nonfinite)
    values = round_split(fmt, parts, draw(x, parts, rounding, generator), False)
    return narrow(parts.groups.from_rows(values), x.dtype)
