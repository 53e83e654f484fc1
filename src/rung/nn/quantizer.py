"""Rounding a tensor on its way into or out of a product: a format, a scale, a rounding mode."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rung.formats import LNS, CounterSource, Format, get, name_of
from rung.nn.scales import Channels, Scale, default_scale, require_scale, rounded
from rung.tensor import CodedTensor


@dataclass(frozen=True, init=False)
class Quantizer:
    """Fake quantization: values of a format, in the dtype of the input.

    All-zero groups stay zero in every format. NaN and infinity are never made finite, so that the
    loss shows them. In a Minifloat with a NaN (fp8_e4m3, fp8_e5m2, bf16, fp16) they stay by
    themselves, whatever the scale: NaN is NaN, infinity is infinity or, without one, NaN; the
    group's scale and its other numbers come from what is finite. In every other format (an LNS, a
    ladder, an MX, fp6, fp4, int8) a group of one scale that holds any becomes NaN as a whole.

    Attributes:
        format: What a number is; given as a format or by name.
        scale: Who shares a scale: ``"tensor"``, ``"channel"`` (each index of the product's channel
            dimension), ``"row"`` (each vector along the last dimension: a token's features), or
            an integer n >= 1 (blocks of n along the dimension that the product sums over, input
            features of a linear layer). An `MX` brings its own blocks, and takes no other. A
            `Minifloat` takes ``"none"`` too: values as they are, a plain cast. Default: the blocks
            of an MX, ``"none"`` for minifloats of more than 8 bits (bf16, fp16), else
            ``"tensor"``.
        rounding: ``"nearest"``, or ``"stochastic"``, keyed by one number of torch's default
            generator in each call, as dropout is: `torch.manual_seed` repeats it.

    Raises:
        ValueError: Unknown format name, scale or rounding; a block size under 1; a scale of an MX
            that isn't its own; ``"none"`` for anything but a Minifloat.
        TypeError: A scale that is neither a name nor an integer; no format.

    Example:
        >>> Quantizer("lns4", scale="row").q(torch.tensor([[1.0, -0.4], [6.0, 0.0]]))
        tensor([[ 1.0000, -0.5000],
                [ 6.0000,  0.0469]])
        >>> print(Quantizer("mxfp4"))
        mxfp4 by blocks of 32
    """

    format: Format
    scale: Scale
    rounding: str = "nearest"
    # A name leaves open whether a code stands for zero: the place in a policy decides.
    by_name: bool = field(default=False, init=False, repr=False, compare=False)

    def __init__(
        self, format: Format | str, scale: Scale | None = None, rounding: str = "nearest"
    ) -> None:
        fmt = get(format) if isinstance(format, str) else format
        if not callable(getattr(fmt, "quantize", None)):
            raise TypeError(f"`format` must be a name or a format of rung.formats; got {format!r}.")
        scale = default_scale(fmt) if scale is None else scale
        object.__setattr__(self, "format", fmt)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "rounding", rounding)
        object.__setattr__(self, "by_name", isinstance(format, str))
        if self.rounding not in ("nearest", "stochastic"):
            raise ValueError(
                f"`rounding` must be 'nearest' or 'stochastic'; got {self.rounding!r}."
            )
        require_scale(fmt, scale)

    def __str__(self) -> str:
        """Format, whether a code is zero, scale, rounding: ``lns8+zero by tensor``."""
        by = f"by blocks of {self.scale}" if isinstance(self.scale, int) else f"by {self.scale}"
        by = "without a scale" if self.scale == "none" else by
        random = ", stochastic" if self.rounding == "stochastic" else ""
        return f"{name_of(self.format)} {by}{random}"

    def draw(self) -> CounterSource | None:
        """A source for one call of `q`, or None for nearest rounding."""
        if self.rounding == "nearest":
            return None
        # A default device must not turn a key into a wait for that device.
        return CounterSource(int(torch.randint(-(2**63), 2**63 - 1, (), device="cpu")))

    def q(
        self,
        x: Tensor,
        channel_axis: Channels = 0,
        source: CounterSource | None = None,
        block_dim: int = -1,
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
            block_dim: Dimension along which blocks run: an MX's, or those of an integer `scale`.
                The last block may be shorter.

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
            return rounded(
                self.format, self.scale, self.rounding, x, channel_axis, source, block_dim
            )

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
