"""Who shares a scale: what a quantizer's `scale` may be for its format, and rounding by it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rung.formats import MX, CounterSource, FixedPoint, Format, Ladder, Minifloat, name_of
from rung.formats.grouping import Axis

Scale = str | int
_WORDS = ("tensor", "channel", "row")
_CHOICES = "'tensor', 'channel', 'row' or an integer (the size of a block)"


@dataclass(frozen=True)
class GroupedChannels:
    """Channels of a grouped transposed convolution's weight, (in, out / groups, ...).

    Dimension 1 starts anew in each group: a channel is a group and an index of it. So does
    dimension 0, along which blocks run.

    Attributes:
        groups: Number of groups, a divisor of `in`.
    """

    groups: int


Channels = Axis | GroupedChannels


def default_scale(fmt: Format, place: str = "activation") -> Scale:
    """What shares a scale where nothing is said.

    Args:
        fmt: The format.
        place: ``"weight"``, where formats with free scales get one a channel, or any other.
    """
    if isinstance(fmt, MX):
        return fmt.block_size
    if isinstance(fmt, Minifloat) and fmt.bits > 8:
        return "none"  # 16 bits have the range of a tensor in themselves
    return "channel" if place == "weight" else "tensor"


def require_scale(fmt: Format, scale: object) -> None:
    """Refuse a scale that a format can't have.

    Raises:
        ValueError: An unknown word; a block size under 1; any scale but its own for an MX;
            ``"none"`` for anything but a `Minifloat`.
        TypeError: Neither a word nor an integer.
    """
    if isinstance(scale, bool) or not isinstance(scale, str | int):
        raise TypeError(f"`scale` must be {_CHOICES}; got {scale!r}.")
    if isinstance(fmt, MX):
        if scale != fmt.block_size:
            raise ValueError(
                f"An MX has a scale for every block of its own, here of {fmt.block_size}; got "
                f"scale={scale!r}. Leave `scale` out, or name a format of another block size, as "
                "'mxfp4_k16'."
            )
    elif scale == "none":
        if not isinstance(fmt, Minifloat):
            raise ValueError(
                "Only a Minifloat has values without a scale; got scale='none' for "
                f"{name_of(fmt)}. Use {_CHOICES}."
            )
    elif isinstance(scale, str) and scale not in _WORDS:
        floats = ", or 'none'" if isinstance(fmt, Minifloat) else ""
        raise ValueError(f"`scale` must be {_CHOICES}{floats}; got {scale!r}.")
    elif isinstance(scale, int) and scale < 1:
        raise ValueError(f"A block must have 1 number or more; got scale={scale}.")


def rounded(
    fmt: Format,
    scale: Scale,
    rounding: str,
    x: Tensor,
    channel_axis: Channels,
    source: CounterSource | None,
    block_dim: int,
) -> Tensor:
    """Values of a format, by groups of equal scale; arguments as `Quantizer.q`'s.

    Args:
        fmt: The format.
        scale: One that `require_scale` lets through.
        rounding: ``"nearest"`` or ``"stochastic"``.
        x: Plain tensor that isn't empty.
        channel_axis: See `Quantizer.q`.
        source: For stochastic rounding.
        block_dim: See `Quantizer.q`.
    """
    if isinstance(channel_axis, GroupedChannels):
        by_group = torch.unflatten(x, 0, (channel_axis.groups, -1))
        dim = block_dim % x.ndim + 1
        return rounded(fmt, scale, rounding, by_group, (0, 2), source, dim).flatten(0, 1)
    if isinstance(fmt, MX):
        if not x.ndim:
            return rounded(fmt, scale, rounding, x.reshape(1), None, source, -1).reshape(())
        return fmt.quantize(x, None, rounding, source, nonfinite="propagate", dim=block_dim)
    if isinstance(scale, int) and x.ndim and isinstance(fmt, Minifloat | FixedPoint):
        values = fmt.quantize(
            x, None, rounding, source, block=scale, nonfinite="propagate", dim=block_dim
        )
        return values if block_dim in (-1, x.ndim - 1) else values.contiguous()
    if isinstance(scale, int) and x.ndim and block_dim not in (-1, x.ndim - 1):
        moved = rounded(fmt, scale, rounding, x.movedim(block_dim, -1), channel_axis, source, -1)
        return moved.movedim(-1, block_dim).contiguous()
    if isinstance(fmt, Ladder):
        return _on_ladder(fmt, scale, rounding, x, channel_axis, source)
    axis, block = _groups(scale, x, channel_axis)
    whole = axis is None and block is None and scale != "none"
    if whole and isinstance(fmt, Minifloat | FixedPoint):
        # Without a scale these are cast as they are: here they have one.
        return fmt.quantize(x, None, rounding, source, "amax", nonfinite="propagate")
    return fmt.quantize(x, axis, rounding, source, block=block, nonfinite="propagate")


def _groups(scale: Scale, x: Tensor, channel_axis: Axis) -> tuple[Axis, int | None]:
    if isinstance(scale, int):
        return None, (scale if x.ndim else None)
    if scale == "channel":
        return (None if x.ndim == 0 else channel_axis), None
    if scale == "row" and x.ndim > 1:
        return tuple(range(x.ndim - 1)), None
    return None, None


def _on_ladder(
    fmt: Ladder,
    scale: Scale,
    rounding: str,
    x: Tensor,
    channel_axis: Axis,
    source: CounterSource | None,
) -> Tensor:
    """A ladder has neither a zero nor a scale for zeros: both are given to it here."""
    if isinstance(scale, int) and x.ndim:
        width = x.shape[-1]
        padded = torch.nn.functional.pad(x, (0, -width % scale))
        blocks = padded.reshape(*x.shape[:-1], -1, scale)
        rows = _ladder_rows(fmt, rounding, blocks, tuple(range(blocks.ndim - 1)), source)
        return rows.flatten(-2)[..., :width].contiguous()
    return _ladder_rows(fmt, rounding, x, _groups(scale, x, channel_axis)[0], source)


def _ladder_rows(
    fmt: Ladder, rounding: str, x: Tensor, axis: Axis, source: CounterSource | None
) -> Tensor:
    kept = {axis} if isinstance(axis, int) else set(axis or ())
    kept = {dim % x.ndim for dim in kept} if x.ndim else set()
    shared = [dim for dim in range(x.ndim) if dim not in kept]
    largest = x.abs().amax(dim=shared, keepdim=True) if shared else x.abs()
    if not kept:
        largest = largest.reshape(())
    usable = torch.isfinite(largest) & (largest > 0)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    scale = torch.where(usable, largest, 1.0).to(wide)
    values = fmt.quantize(torch.where(usable, x, 1.0), None, rounding, source, scale=scale)
    # 0 where a group is all zero, NaN where it holds NaN or infinity.
    return torch.where(usable, values, torch.where(largest == 0, 0.0, torch.nan).to(x.dtype))
