"""Rounding a tensor on its way into or out of a product: a format, a scale, a rounding mode."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rung.formats import LNS, CounterSource, Format, Ladder, get, name_of
from rung.formats.grouping import Axis
from rung.tensor import CodedTensor

_SCALES = ("tensor", "channel", "row")


@dataclass(frozen=True)
class GroupedChannels:
    """Channels of a grouped transposed convolution's weight, (in, out / groups, ...).

    Dimension 1 starts anew in each group: a channel is a group and an index of it.

    Attributes:
        groups: Number of groups, a divisor of `in`.
    """

    groups: int


Channels = Axis | GroupedChannels


@dataclass(frozen=True, init=False)
class Quantizer:
    """Fake quantization: values of a format, in the dtype of the input.

    All-zero groups stay zero in every format. NaN and infinity are never made finite: a group of
    one scale that holds any becomes NaN as a whole, so that the loss shows it.

    Attributes:
        format: What a number is; given as a format or by name.
        scale: Who shares a scale: ``"tensor"``, ``"channel"`` (each index of the product's channel
            dimension), ``"row"`` (each vector along the last dimension: a token's features), or
            an integer n >= 1 (blocks of n along the last dimension).
        rounding: ``"nearest"``, or ``"stochastic"``, keyed by one number of torch's default
            generator in each call, as dropout is: `torch.manual_seed` repeats it.

    Raises:
        ValueError: Unknown format name, scale or rounding; a block size under 1.
        TypeError: A scale that is neither a name nor an integer; no format.

    Example:
        >>> Quantizer("lns4", scale="row").q(torch.tensor([[1.0, -0.4], [6.0, 0.0]]))
        tensor([[ 1.0000, -0.5000],
                [ 6.0000,  0.0469]])
    """

    format: Format
    scale: str | int = "tensor"
    rounding: str = "nearest"
    # A name leaves open whether a code stands for zero: the place in a policy decides.
    by_name: bool = field(default=False, init=False, repr=False, compare=False)

    def __init__(
        self, format: Format | str, scale: str | int = "tensor", rounding: str = "nearest"
    ) -> None:
        fmt = get(format) if isinstance(format, str) else format
        if not callable(getattr(fmt, "quantize", None)):
            raise TypeError(f"`format` must be a name or a format of rung.formats; got {format!r}.")
        object.__setattr__(self, "format", fmt)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "rounding", rounding)
        object.__setattr__(self, "by_name", isinstance(format, str))
        if self.rounding not in ("nearest", "stochastic"):
            raise ValueError(
                f"`rounding` must be 'nearest' or 'stochastic'; got {self.rounding!r}."
            )
        choices = "'tensor', 'channel', 'row' or an integer (the size of a block)"
        if isinstance(self.scale, bool) or not isinstance(self.scale, str | int):
            raise TypeError(f"`scale` must be {choices}; got {self.scale!r}.")
        if isinstance(self.scale, str) and self.scale not in _SCALES:
            raise ValueError(f"`scale` must be {choices}; got {self.scale!r}.")
        if isinstance(self.scale, int) and self.scale < 1:
            raise ValueError(f"A block must have 1 number or more; got scale={self.scale}.")

    def __str__(self) -> str:
        """Format, whether a code is zero, scale, rounding: ``lns8+zero by tensor``."""
        by = f"blocks of {self.scale}" if isinstance(self.scale, int) else self.scale
        random = ", stochastic" if self.rounding == "stochastic" else ""
        return f"{name_of(self.format)} by {by}{random}"

    def draw(self) -> CounterSource | None:
        """A source for one call of `q`, or None for nearest rounding."""
        if self.rounding == "nearest":
            return None
        # A default device must not turn a key into a wait for that device.
        return CounterSource(int(torch.randint(-(2**63), 2**63 - 1, (), device="cpu")))

    def q(
        self, x: Tensor, channel_axis: Channels = 0, source: CounterSource | None = None
    ) -> Tensor:
        """Round a tensor; no gradient is recorded.

        Args:
            x: Real floating-point tensor of any shape. Codes of an LNS that this format is the
                upper bits of are shifted as integers and keep their own scale, whatever `scale`
                says.
            channel_axis: Dimension (or several) whose every index has a scale for ``"channel"``;
                None: one scale. `GroupedChannels` for a weight whose channels are no dimensions.
            source: Random numbers of stochastic rounding; the same source rounds alike. Default:
                `draw`.

        Returns:
            Tensor of x's shape and dtype.
        """
        with torch.no_grad():
            if isinstance(x, CodedTensor):
                shifted = self._shift(x)
                if shifted is not None:
                    return shifted
                x = x.decode()
            x = x.detach()
            if not x.numel():
                return x
            if self.rounding == "stochastic" and source is None:
                source = self.draw()
            if isinstance(channel_axis, GroupedChannels):
                by_group = torch.unflatten(x, 0, (channel_axis.groups, -1))
                if self.scale == "channel":
                    return self.q(by_group, (0, 2), source).flatten(0, 1)
                channel_axis = None
            if isinstance(self.format, Ladder):
                return self._on_ladder(x, channel_axis, source)
            axis, block = self._groups(x, channel_axis)
            return self.format.quantize(
                x, axis, self.rounding, source, block=block, nonfinite="propagate"
            )

    def _groups(self, x: Tensor, channel_axis: Axis) -> tuple[Axis, int | None]:
        if isinstance(self.scale, int):
            return None, (self.scale if x.ndim else None)
        if self.scale == "channel":
            return (None if x.ndim == 0 else channel_axis), None
        if self.scale == "row" and x.ndim > 1:
            return tuple(range(x.ndim - 1)), None
        return None, None

    def shifts(self, weight: CodedTensor) -> bool:
        """Whether the upper bits of a weight's codes are this format's codes, by themselves."""
        fine, fmt = weight.format, self.format
        if not isinstance(fine, LNS) or not isinstance(fmt, LNS) or self.rounding != "nearest":
            return False
        return fmt.shift_from(fine) is not None

    def _shift(self, weight: CodedTensor) -> Tensor | None:
        """Compute weights from the upper bits of the stored codes, if they are that."""
        fine, fmt = weight.format, self.format
        if not self.shifts(weight):
            return None
        assert isinstance(fine, LNS)
        assert isinstance(fmt, LNS)
        return fmt.decode_shifted(weight.codes, weight.scale, fine).to(weight.dtype)

    def _on_ladder(self, x: Tensor, channel_axis: Axis, source: CounterSource | None) -> Tensor:
        """A ladder has neither a zero nor a scale for zeros: both are given to it here."""
        if isinstance(self.scale, int) and x.ndim:
            width = x.shape[-1]
            padded = torch.nn.functional.pad(x, (0, -width % self.scale))
            blocks = padded.reshape(*x.shape[:-1], -1, self.scale)
            rows = _ladder_rows(self, blocks, tuple(range(blocks.ndim - 1)), source)
            return rows.flatten(-2)[..., :width].contiguous()
        return _ladder_rows(self, x, self._groups(x, channel_axis)[0], source)


def _ladder_rows(
    quantizer: Quantizer, x: Tensor, axis: Axis, source: CounterSource | None
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
    rounded = quantizer.format.quantize(
        torch.where(usable, x, 1.0), None, quantizer.rounding, source, scale=scale
    )
    # 0 where a group is all zero, NaN where it holds NaN or infinity.
    return torch.where(usable, rounded, torch.where(largest == 0, 0.0, torch.nan).to(x.dtype))


@dataclass(frozen=True)
class Quantizers:
    """The four quantizers around one product; None leaves a place in floating point.

    Attributes:
        weight: Q_W, on the weight in the forward pass.
        activation: Q_A, on every other operand in the forward pass.
        error: Q_E, on the gradient that arrives at the product's result.
        gradient: Q_G, on the weight's gradient that leaves the product.
    """

    weight: Quantizer | None = None
    activation: Quantizer | None = None
    error: Quantizer | None = None
    gradient: Quantizer | None = None

    @property
    def empty(self) -> bool:
        """Whether all four places are floating point."""
        return not (self.weight or self.activation or self.error or self.gradient)
