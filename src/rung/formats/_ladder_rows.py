"""Between a tensor and its groups of equal scale: what `Ladder` does around the kernels."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rung.formats._signed_rows import require_policy
from rung.formats._source import CounterSource, resolve
from rung.formats.grouping import Axis, Cut, Groups, cut_of, groups_of, groups_of_scale
from rung.formats.scaling import (
    require_broadcast,
    require_finite,
    require_positive,
    require_real,
)
from rung.kernels.cpu.plain import usable
from rung.kernels.draws import encode_draws
from rung.kernels.group_scales import GIVEN, LARGEST
from rung.kernels.ladder_round import ladder_decode, ladder_round
from rung.kernels.signs import pack_signs

if TYPE_CHECKING:
    from rung.formats.ladder import Ladder


def rounded(
    fmt: "Ladder",
    x: Tensor,
    axis: Axis,
    rounding: str,
    generator: torch.Generator | CounterSource | None,
    scale: Tensor | float | None,
    block: int | None,
    nonfinite: str,
    codes: bool,
) -> tuple[Tensor, Tensor]:
    """Values or codes in x's shape, and the scales.

    Raises:
        ValueError, TypeError: See `Ladder.encode`.
    """
    require_real(x)
    require_policy(nonfinite)
    cut, groups, given = None, None, None
    if scale is None:
        cut = cut_of(x.shape, axis, block)
    else:
        groups = groups_of(x, axis, block)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        given = torch.as_tensor(scale, dtype=dtype, device=x.device).detach()
        if block is None:
            require_broadcast(given, x.shape)
        else:
            given = given.expand(groups.scale_shape)
        groups = groups_of_scale(x, given, block)
        cut = groups.cut()
    key, offset = resolve(rounding, generator, x.device)
    draws = None if key is None else encode_draws(key, offset, x.numel()).reshape(x.shape)
    if cut is not None:
        out, scales = _round(fmt, x, cut, block or 0, given, draws, codes)
        shape = cut.scale_shape
    else:
        groups = groups or groups_of(x, axis, block)
        out, scales = _round_scattered(fmt, x, groups, given, draws, codes)
        shape = groups.scale_shape
    _require(x, scales, nonfinite)
    shape = shape if given is None else tuple(given.shape)
    return (out if codes else out.to(x.dtype)), scales.view(shape)


def _round(
    fmt: "Ladder",
    x: Tensor,
    cut: Cut,
    block: int,
    given: Tensor | None,
    draws: Tensor | None,
    codes: bool,
) -> tuple[Tensor, Tensor]:
    """Groups that lie in one piece in memory."""
    matrix, source = cut.matrix(x), LARGEST
    if given is not None:
        given, source = given.reshape(cut.scale_rows, -1), GIVEN
    draws = None if draws is None else draws.reshape(matrix.shape)
    numbers = (fmt.bits, fmt.base_precision, block, cut.scale_rows, codes)
    out, scales = ladder_round(matrix, given, source, draws, *numbers)
    return (out if cut.same else out.view(x.shape)), scales


def _round_scattered(
    fmt: "Ladder",
    x: Tensor,
    groups: Groups,
    given: Tensor | None,
    draws: Tensor | None,
    codes: bool,
) -> tuple[Tensor, Tensor]:
    """Groups of any other tensor, and none of an empty one."""
    if not x.numel():
        # An empty tensor has a scale like any other.
        scales = torch.ones(groups.scale_shape, device=x.device) if given is None else given
        return torch.empty_like(x, dtype=fmt.code_dtype if codes else x.dtype), scales
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    matrix, source = groups.to_rows(x.detach().resolve_neg().to(wide)), LARGEST
    if given is not None:
        given, source = given.reshape(-1, 1), GIVEN
    draws = None if draws is None else groups.to_rows(draws)
    numbers = (fmt.bits, fmt.base_precision, 0, 0, codes)
    out, scales = ladder_round(matrix, given, source, draws, *numbers)
    return groups.from_rows(out).contiguous(), scales


def _require(x: Tensor, scales: Tensor, nonfinite: str) -> None:
    """Refuse groups without a scale, and those that are not finite unless they may be NaN."""
    if scales.numel() and scales.amin().item() > 0:  # not of NaN
        return
    good = scales > 0
    if nonfinite == "propagate":
        good |= torch.isnan(scales)
    if not bool(good.all()):
        if nonfinite == "raise":
            require_finite(x)
        require_positive(scales if nonfinite == "raise" else torch.where(good, 1.0, scales))


def decode(
    fmt: "Ladder", codes: Tensor, scale: Tensor, signs: Tensor | None, block: int = 0
) -> Tensor:
    """Signed values of codes in the scale's dtype; signs None: all positive."""
    values: Tensor = ladder_decode(codes, scale, signs, fmt.bits, fmt.base_precision, block)
    return values


def signs_of(x: Tensor) -> Tensor:
    """The signs of x, packed."""
    if not (usable(x) and x.dtype == torch.float32):
        return pack_signs(x.detach() < 0)
    from rung.kernels.cpu import ladder as cpu

    return cpu.pack_negative(x.detach().resolve_neg().contiguous())
