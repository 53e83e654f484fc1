"""Small integers over a power of two: the INT8 element of the MX formats."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rung.formats import _minifloat_rows as rows
from rung.formats._encoded import Encoded
from rung.formats._source import CounterSource
from rung.formats.grouping import Axis
from rung.kernels import minifloat as kernel
from rung.kernels.mx_round import fields


@dataclass(frozen=True)
class FixedPoint:
    """Two's complement integers k over 2^f, symmetric: x = k * 2^-f, |k| <= 2^(B - 1) - 1.

    The one integer without a positive twin, -2^(B - 1), is never written; read, it is what it says.
    Zero is +0. Scales, rounding and policies are those of `Minifloat`.

    Args:
        bits: B, 2 to 16.
        fraction_bits: f, 0 to B.

    Raises:
        ValueError: A number out of range.
        TypeError: Not an integer.

    Example:
        >>> fmt = FixedPoint()
        >>> fmt.quantize(torch.tensor([0.3, -1.0, 5.0]))
        tensor([ 0.2969, -1.0000,  1.9844])
        >>> fmt.encode(torch.tensor([0.3, -1.0, 5.0])).codes
        tensor([ 19, 192, 127], dtype=torch.uint8)

    Source: OCP Microscaling Formats (MX) Specification v1.0, section 5.3.4 (INT8).
    """

    bits: int = 8
    fraction_bits: int = 6
    grid: kernel.Grid = field(init=False, repr=False, compare=False)
    """The numbers that kernels take."""
    numbers: tuple[Any, ...] = field(init=False, repr=False, compare=False)
    """The fields of `grid`."""

    def __post_init__(self) -> None:
        for name, low, high in (("bits", 2, 16), ("fraction_bits", 0, self.bits)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"`{name}` must be an integer; got {value!r}.")
            if not low <= value <= high:
                raise ValueError(f"`{name}` must be from {low} to {high}; got {name}={value}.")
        object.__setattr__(self, "grid", self._grid())
        object.__setattr__(self, "numbers", fields(self.grid))

    @property
    def code_dtype(self) -> torch.dtype:
        """Storage of a code: uint8 up to 8 bits, int16 above."""
        return kernel.code_dtype(self.bits)

    @property
    def largest(self) -> float:
        """Largest number, (2^(B - 1) - 1) * 2^-f."""
        return float(((1 << (self.bits - 1)) - 1) * 2.0**-self.fraction_bits)

    @property
    def smallest(self) -> float:
        """Smallest positive number, the step everywhere: 2^-f."""
        return float(2.0**-self.fraction_bits)

    @property
    def emax(self) -> int:
        """Exponent of the largest number: B - 2 - f."""
        return self.bits - 2 - self.fraction_bits

    @property
    def max_relative_error(self) -> float:
        """1: what lies under half a step becomes 0. The absolute error is half a step at most."""
        return 1.0

    def _grid(self) -> kernel.Grid:
        return kernel.Grid(
            bits=self.bits,
            mantissa_bits=self.bits - 1,
            lowest=self.emax + 1,
            largest=self.largest,
            fixed=True,
        )

    def encode(
        self,
        x: Tensor,
        axis: Axis = None,
        rounding: str = "nearest",
        generator: torch.Generator | CounterSource | None = None,
        scale: Tensor | float | str | None = None,
        *,
        block: int | None = None,
        nonfinite: str = "raise",
    ) -> Encoded:
        """Codes and scale of a tensor; arguments, results and errors of `Minifloat.encode`."""
        split = rows.split(self, x, axis, scale, block, nonfinite)
        draws = rows.draw(x, split.groups, rounding, generator)
        return rows.encode(self, split, x, block, draws)

    def decode(self, encoded: Encoded) -> Tensor:
        """Values of codes: same shape as the codes, dtype of the tensor that was encoded."""
        return rows.decode(self, encoded)

    def quantize(
        self,
        x: Tensor,
        axis: Axis = None,
        rounding: str = "nearest",
        generator: torch.Generator | CounterSource | None = None,
        scale: Tensor | float | str | None = None,
        *,
        block: int | None = None,
        nonfinite: str = "raise",
        dim: int = -1,
    ) -> Tensor:
        """``decode(encode(x))``: the same shape and dtype, values of the format.

        Blocks may run along another dimension, `dim`: the result is that of the tensor with this
        dimension moved to the end, and moved back; random numbers stay with their elements.
        """
        return rows.quantize_along(self, x, axis, rounding, generator, scale, block, nonfinite, dim)
