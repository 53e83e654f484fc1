"""The ladder: weights as a sign and an integer number of rungs below the largest weight."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rung.formats import _ladder_rows as rows
from rung.formats._encoded import Encoded
from rung.formats._source import CounterSource
from rung.formats.grouping import Axis
from rung.kernels import ladder as kernel

# Bernstein et al. 2020, section 4.1: 12 bits with base precision 0.001 span a factor of 60.
_LOG_RANGE = 0.001 * (2**12 - 1)
# exp(-87) is the last rung that a float32 scale of 1 still decodes to a normal number.
_MAX_LOG_RANGE = 87.0
# Rungs closer than this are no longer apart by a few float32 spacings.
_MIN_BASE_PRECISION = 1e-6


@dataclass(frozen=True)
class Ladder:
    """B-bit logarithmic number format of B-bit Madam.

        W = sign * scale * exp(-k * base_precision),   k in {0, 1, ..., 2^B - 1}

    k = 0 is the top rung. There is no zero: +0 and -0 encode to the bottom rung with sign +.
    Magnitudes above `scale` saturate to the top rung, those below the bottom rung to the bottom.
    NaN and infinity are refused. `dtype`s: codes are uint8 for B <= 8 and int16 above (16-bit codes
    use all patterns of int16); scale is float32, or float64 for float64 input.

    Args:
        bits: B, 2 to 16.
        base_precision: eta0, the change of ln|W| from one rung to the next. Default: what keeps the
            range of the paper's 12-bit format, 0.001 * 4095 / (2^B - 1).

    Raises:
        ValueError: `bits` outside 2-16; `base_precision` not positive, too fine for float32, or so
            coarse that the bottom rung underflows float32.
        TypeError: `bits` is not an integer.

    Example:
        >>> fmt = Ladder(bits=8)
        >>> round(fmt.dynamic_range, 1)
        60.0
        >>> x = torch.tensor([0.5, -0.1, 0.25])
        >>> encoded = fmt.encode(x)
        >>> encoded.codes
        tensor([  0, 100,  43], dtype=torch.uint8)
        >>> torch.equal(fmt.decode(encoded), fmt.quantize(x))
        True

    Source: Bernstein et al. 2020, "Learning compositional functions via multiplicative weight
    updates", arXiv:2006.14560, section 4.1.
    """

    bits: int
    base_precision: float = None  # type: ignore[assignment]  # filled in by __post_init__

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int):
            raise TypeError(f"`bits` must be an integer; got {self.bits!r}.")
        if not 2 <= self.bits <= 16:
            raise ValueError(f"`bits` must be from 2 to 16; got bits={self.bits}.")
        if self.base_precision is None:
            object.__setattr__(self, "base_precision", _LOG_RANGE / (self.levels - 1))
        if not self.base_precision >= _MIN_BASE_PRECISION:
            raise ValueError(
                f"`base_precision` must be at least {_MIN_BASE_PRECISION} (rungs that float32 "
                f"tells apart); got base_precision={self.base_precision}. Leave it out to keep "
                "the range of the paper's 12-bit format."
            )
        if not self.log_range <= _MAX_LOG_RANGE:
            raise ValueError(
                f"(2^bits - 1) * base_precision must be at most {_MAX_LOG_RANGE} (the bottom rung "
                f"in float32); got bits={self.bits} and base_precision={self.base_precision}, "
                f"that is {self.log_range:.4g}. Use fewer bits or a smaller base_precision."
            )

    @property
    def levels(self) -> int:
        """Number of rungs, 2^B."""
        return 1 << self.bits

    @property
    def log_range(self) -> float:
        """Ln of the largest magnitude over the smallest: (2^B - 1) * base_precision."""
        return (self.levels - 1) * self.base_precision

    @property
    def dynamic_range(self) -> float:
        """Largest magnitude over the smallest: exp((2^B - 1) * base_precision)."""
        return math.exp(self.log_range)

    @property
    def smallest(self) -> float:
        """Smallest magnitude as a fraction of the scale."""
        return math.exp(-self.log_range)

    @property
    def max_relative_error(self) -> float:
        """Worst |q(x) - x| / |x| of nearest rounding inside the range: exp(eta0 / 2) - 1."""
        return math.expm1(self.base_precision / 2)

    @property
    def code_dtype(self) -> torch.dtype:
        """Storage of a code: uint8 up to 8 bits, int16 above."""
        return kernel.code_dtype(self.bits)

    def encode(
        self,
        x: Tensor,
        axis: Axis = None,
        rounding: str = "nearest",
        generator: torch.Generator | CounterSource | None = None,
        scale: Tensor | float | None = None,
        *,
        block: int | None = None,
        nonfinite: str = "raise",
    ) -> Encoded:
        """Codes, signs and scale of a tensor.

        Args:
            x: Real floating-point tensor of any shape.
            axis: None for one scale; a dimension, or several, whose every index gets a scale of its
                own.
            rounding: ``"nearest"`` (in the log domain) or ``"stochastic"`` (one
                of the two neighbours, unbiased in the decoded value).
            generator: For stochastic rounding: a torch.Generator, from which one number is drawn,
                or a `CounterSource`.
            scale: W_max, positive, broadcastable to `x` (of shape (..., blocks) with `block`).
                Default: the largest magnitude of each group.
            block: Give blocks of so many elements along the last dimension a scale each.
            nonfinite: ``"raise"``, or ``"propagate"``: a group that holds NaN or infinity gets
                scale NaN and decodes to NaN as a whole.

        Returns:
            `Encoded`: codes of x's shape, packed signs, scale, and x's dtype.

        Raises:
            ValueError: x holds NaN or infinity and `nonfinite` is ``"raise"``; a scale is zero,
                negative or not finite (an all-zero group has no scale); unknown rounding; no such
                axis; a block that is not positive.
            TypeError: x is not a real floating-point tensor.
        """
        codes, scales = rows.rounded(
            self, x, axis, rounding, generator, scale, block, nonfinite, codes=True
        )
        return Encoded(codes, rows.signs_of(x), scales, x.dtype, block)

    def decode(self, encoded: Encoded) -> Tensor:
        """Values of codes: same shape as the codes, dtype of the tensor that was encoded."""
        assert encoded.signs is not None
        values = rows.decode(self, encoded.codes, encoded.scale, encoded.signs, encoded.block or 0)
        return values.to(encoded.dtype)

    def quantize(
        self,
        x: Tensor,
        axis: Axis = None,
        rounding: str = "nearest",
        generator: torch.Generator | CounterSource | None = None,
        scale: Tensor | float | None = None,
        *,
        block: int | None = None,
        nonfinite: str = "raise",
    ) -> Tensor:
        """``decode(encode(x))``: the same shape and dtype, values on the ladder."""
        values, _ = rows.rounded(
            self, x, axis, rounding, generator, scale, block, nonfinite, codes=False
        )
        return values
