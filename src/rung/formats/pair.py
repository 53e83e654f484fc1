"""The pair of ladders: a weight is the difference of two numbers on a ladder, a code for each."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from rung.formats import _signed_rows as rows
from rung.formats._encoded import Encoded
from rung.formats._source import CounterSource
from rung.formats.grouping import Axis
from rung.formats.sinh import Sinh
from rung.kernels import pair as kernel
from rung.kernels import sinh
from rung.kernels.ladder import code_dtype, load_codes, store_codes


@dataclass(frozen=True)
class Pair:
    """B bits for the difference of two ladders, each of B/2 bits.

        W = m+ - m-,   m = scale * knee / 2 * exp(k h),   k+ and k- in {-K, ..., K}
        K = 2^(B/2 - 1) - 1,   h = asinh(1 / knee) / K

    m0 = scale * knee / 2 is the middle of both ladders. A number is encoded with k- = -k+, as the
    value of the `Sinh` of B/2 bits and the same knee; so encoding uses (2 K + 1) of the
    (2 K + 1)^2 values. Training uses all: each ladder moves on its own, and the size of both
    decides how far a step moves their difference.

    The code is (k+ + K) 2^(B/2) + (k- + K): uint8 for B <= 8 and int16 above. Of a half the
    pattern 2^(B/2) - 1 is not used. Magnitudes above `scale` saturate.

    Args:
        bits: B, even, 4 to 16, of both codes together.
        knee: 2 m0 as a fraction of the scale; 1e-9 to 1000.

    Raises:
        ValueError: A number out of range.
        TypeError: `bits` is not an integer.

    Example:
        >>> fmt = Pair(bits=16, knee=0.03)
        >>> encoded = fmt.encode(torch.tensor([1.0, -0.5, 0.0]))
        >>> [codes.tolist() for codes in fmt.split(encoded.codes)]
        [[127, -106, 0], [-127, 106, 0]]
        >>> fmt.decode(encoded)
        tensor([ 1.0000, -0.4990,  0.0000])

    Source: the EG+- trick of Kivinen, Warmuth 1997, "Exponentiated Gradient versus Gradient Descent
    for Linear Predictors", on uniform rungs.
    """

    bits: int
    knee: float
    ladder: Sinh = field(init=False, repr=False, compare=False)
    """The values that numbers are rounded to."""

    power_of_two_scale: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.bits, bool) or not isinstance(self.bits, int):
            raise TypeError(f"`bits` must be an integer; got {self.bits!r}.")
        if not 4 <= self.bits <= 16 or self.bits % 2:
            raise ValueError(
                "`bits` must be even and from 4 to 16, half of them for each ladder; got "
                f"bits={self.bits}."
            )
        object.__setattr__(self, "ladder", Sinh(self.bits // 2, self.knee))

    @property
    def spacing(self) -> float:
        """h: the change of ln m from one rung of a ladder to the next."""
        return self.ladder.spacing

    @property
    def levels(self) -> int:
        """Number of pairs of rungs, (2^(B/2) - 1)^2."""
        return self.ladder.levels**2

    @property
    def smallest(self) -> float:
        """Smallest magnitude that numbers are rounded to and that is not 0, over the scale."""
        return self.ladder.smallest

    @property
    def dynamic_range(self) -> float:
        """Largest magnitude over `smallest`."""
        return self.ladder.dynamic_range

    @property
    def max_relative_error(self) -> float:
        """Worst |q(x) - x| / |x| of nearest rounding from the smallest magnitude on."""
        return self.ladder.max_relative_error

    @property
    def code_dtype(self) -> torch.dtype:
        """Storage of both codes together: uint8 up to 8 bits, int16 above."""
        return code_dtype(self.bits)

    def split(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The rungs (k+, k-) of stored codes, int32 in [-K, K]."""
        return kernel.split(load_codes(codes), self.bits)

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
        """Codes and scale of a tensor, k- = -k+; arguments and errors are those of `Sinh.encode`.

        Returns:
            `Encoded`: codes of x's shape, scale, and x's dtype.
        """
        return rows.encode(self, x, axis, rounding, generator, scale, block, nonfinite)

    def decode(self, encoded: Encoded) -> Tensor:
        """Values of codes: same shape as the codes, dtype of the tensor that was encoded."""
        block = encoded.block or 0
        values = kernel.pair_decode(encoded.codes, encoded.scale, self.bits, self.knee, block)
        return rows.narrow(values, encoded.dtype)

    def decode_codes(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Values of stored codes, of `code_dtype`.

        `scale` is broadcastable to them; its dtype is the result's.
        """
        values: Tensor = kernel.pair_decode(codes, scale, self.bits, self.knee, 0)
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
        """``decode(encode(x))``: the same shape and dtype."""
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
        half = self.ladder.bits
        found: tuple[Tensor, Tensor] = sinh.sinh_round(
            rows, scale, source, draws, half, self.knee, block, scale_rows, codes
        )
        if not codes:
            return found
        k = load_codes(found[0]) - sinh.top_of(half)
        return store_codes(kernel.join(k, -k, self.bits), self.bits), found[1]
