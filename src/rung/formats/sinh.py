"""The sinh ladder: signed rungs that are linear around zero and logarithmic beyond a knee."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from rung.formats import _signed_rows as rows
from rung.formats._encoded import Encoded
from rung.formats._source import CounterSource
from rung.formats.grouping import Axis
from rung.kernels import sinh as kernel
from rung.kernels.ladder import code_dtype
from rung.kernels.sinh_tables import rungs, spacing

_KNEES = (1e-9, 1e3)


@dataclass(frozen=True)
class Sinh:
    """B-bit ladder through zero, for weights whose sign has to be free.

        W = scale * knee * sinh(k * h),   k in {-K, ..., K},   K = 2^(B-1) - 1
        h = asinh(1 / knee) / K, so that k = K is W = scale

    Around zero neighbours lie knee * h * scale apart; beyond knee * scale they lie a factor of e^h
    apart. Zero is a code, and W and -W are both there or both not. Held as theta = k h, a weight
    that moves by whole rungs moves as by Madam where it is large and as by Adam where it is small,
    and changes its sign by walking through zero. It is the difference of two ladders,
    m+ - m- = scale * knee * sinh(theta), whose product stays as it is.

    `code` is k + K: uint8 for B <= 8 and int16 above; the pattern 2^B - 1 is not used.
    Magnitudes above `scale` saturate. Rounding to nearest is in theta and exact for float32 (and
    narrower) input. A group of zeros has scale 0 unless one is given, and decodes to 0.

    Args:
        bits: B, 2 to 16, sign included.
        knee: Where the ladder turns from linear to logarithmic, as a fraction of the scale; 1e-9 to
            1000. Far above 1 the codes are those of a linear format.

    Raises:
        ValueError: A number out of range.
        TypeError: `bits` is not an integer.

    Example:
        >>> fmt = Sinh(bits=8, knee=0.03)
        >>> round(fmt.spacing, 4), round(fmt.smallest, 5)
        (0.0331, 0.00099)
        >>> encoded = fmt.encode(torch.tensor([1.0, -0.5, 0.0, 0.001]))
        >>> encoded.codes
        tensor([254,  21, 127, 128], dtype=torch.uint8)
        >>> fmt.decode(encoded)
        tensor([ 1.0000e+00, -4.9900e-01,  0.0000e+00,  9.9229e-04])

    Source: the mirror map of Ghai, Hazan, Singer 2020, "Exponentiated Gradient Meets Gradient
    Descent", arXiv:1902.01903 (hypentropy, beta = 2 m where m^2 = m+ m-), on uniform rungs.
    """

    bits: int
    knee: float
    spacing: float = field(init=False, repr=False, compare=False)
    """h: the change of theta = asinh(W / (knee * scale)) from one rung to the next."""

    power_of_two_scale: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int):
            raise TypeError(f"`bits` must be an integer; got {self.bits!r}.")
        if not 2 <= self.bits <= 16:
            raise ValueError(f"`bits` must be from 2 to 16; got bits={self.bits}.")
        low, high = _KNEES
        if not low <= self.knee <= high:
            raise ValueError(
                f"`knee` must be from {low:g} to {high:g} (a fraction of the scale); got "
                f"knee={self.knee}. 0.03 suits weights."
            )
        # Once: its decimal arithmetic is nothing that a compiled step can trace.
        object.__setattr__(self, "spacing", spacing(self.bits, self.knee))

    @property
    def levels(self) -> int:
        """Number of values, 2^B - 1."""
        return (1 << self.bits) - 1

    @property
    def smallest(self) -> float:
        """Smallest magnitude that is not 0, as a fraction of the scale: knee * sinh(h)."""
        return rungs(self.bits, self.knee)[1]

    @property
    def dynamic_range(self) -> float:
        """Largest magnitude over the smallest that is not 0."""
        return 1 / self.smallest

    @property
    def max_relative_error(self) -> float:
        """Worst |q(x) - x| / |x| of nearest rounding from the smallest magnitude on.

        Between the first two rungs, about a third; far above the knee it is e^(h/2) - 1.
        """
        if self.bits == 2:
            return 0.0  # there is no second rung
        one, half, two = (math.sinh(k * self.spacing) for k in (1.0, 1.5, 2.0))
        return max(half - one, two - half) / half

    @property
    def code_dtype(self) -> torch.dtype:
        """Storage of a code: uint8 up to 8 bits, int16 above."""
        return code_dtype(self.bits)

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
        """Codes and scale of a tensor.

        Args:
            x: Real floating-point tensor of any shape.
            axis: None for one scale; a dimension, or several, whose every index gets a scale of its
                own.
            rounding: ``"nearest"`` (in theta) or ``"stochastic"`` (one of the two neighbours,
                unbiased in the decoded value).
            generator: For stochastic rounding: a torch.Generator, from which one number is drawn,
                or a `CounterSource`.
            scale: W_max, 0 or more, broadcastable to `x` (of shape (..., blocks) with `block`).
                Default: the largest magnitude of each group.
            block: Give blocks of so many elements along the last dimension a scale each.
            nonfinite: ``"raise"``, or ``"propagate"``: a group that holds NaN or infinity gets
                scale NaN and decodes to NaN as a whole.

        Returns:
            `Encoded`: codes of x's shape, scale, and x's dtype.

        Raises:
            ValueError: x holds NaN or infinity and `nonfinite` is ``"raise"``; a scale that is
                negative, not finite or not broadcastable; unknown rounding, or a stochastic one
                without a generator; no such axis; a block that is not positive.
            TypeError: x is not a real floating-point tensor; a generator of another kind.
        """
        return rows.encode(self, x, axis, rounding, generator, scale, block, nonfinite)

    def decode(self, encoded: Encoded) -> Tensor:
        """Values of codes: same shape as the codes, dtype of the tensor that was encoded."""
        block = encoded.block or 0
        values = kernel.sinh_decode(encoded.codes, encoded.scale, self.bits, self.knee, block)
        return rows.narrow(values, encoded.dtype)

    def decode_codes(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Values of stored codes, of `code_dtype`.

        `scale` is broadcastable to them; its dtype is the result's.
        """
        values: Tensor = kernel.sinh_decode(codes, scale, self.bits, self.knee, 0)
        return values

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
        return rows.quantize(self, x, axis, rounding, generator, scale, block, nonfinite)

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
        """Values or stored codes of a matrix, and scales: `rung.kernels.sinh`."""
        found: tuple[Tensor, Tensor] = kernel.sinh_round(
            rows, scale, source, draws, self.bits, self.knee, block, scale_rows, codes
        )
        return found
