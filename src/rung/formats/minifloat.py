"""Small floating-point numbers: FP8, FP6, FP4, bfloat16, float16."""

import math
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

_SPECIALS = ("none", "nan", "ieee")
_OVERFLOWS = ("saturate", "nonfinite")


@dataclass(frozen=True)
class Minifloat:
    """A sign, an exponent of few bits and a mantissa of few bits.

        x = (-1)^sign * 2^(E - bias) * (1 + M / 2^m)      exponent field E > 0
        x = (-1)^sign * 2^(1 - bias) * M / 2^m            E = 0, the subnormal numbers and zero

    Codes hold the sign in the top bit, then E, then M: uint8 up to 8 bits, int16 above. Rounding is
    to nearest, ties to the even code, decided exactly for the value over the scale (which is x
    itself for a plain cast and for scales that are powers of two; else a quotient in float32, or
    in float64 for float64 input).

    Scale: a code's value times the scale is the number, x ~ scale * value(code). Without a scale,
    an axis or a block there is none, a plain cast; with an axis or a block each group has its
    largest magnitude over `largest` (never under the smallest normal float32; 1 for zeros only).

    Args:
        exponent_bits: 1 to 8.
        mantissa_bits: m, 0 to 10.
        bias: Exponent bias. Default: 2^(exponent_bits - 1) - 1.
        specials: ``"none"``, every code is a number (E3M2, E2M3, E2M1); ``"nan"``, all ones is NaN
            and there is no infinity (E4M3); ``"ieee"``, the top exponent is infinity and NaN
            (E5M2, bfloat16, float16).
        subnormals: Whether E = 0 has numbers besides zero.
        overflow: Finite magnitudes that round beyond the largest ``"saturate"`` to it, or become
            ``"nonfinite"``: infinity, or NaN in a format without one.

    Raises:
        ValueError: A number out of range; an unknown `specials` or `overflow`; overflow without
            anything to overflow to; numbers that float32 can't hold; no positive number at all.
        TypeError: Bits or bias that are not integers.

    Example:
        >>> fmt = Minifloat(4, 3, specials="nan")
        >>> fmt.largest, fmt.smallest
        (448.0, 0.001953125)
        >>> fmt.quantize(torch.tensor([0.3, -5.3, 1000.0])).tolist()
        [0.3125, -5.5, 448.0]
        >>> fmt.encode(torch.tensor([0.3, -5.3, 1000.0])).codes
        tensor([ 42, 203, 126], dtype=torch.uint8)

    Source: OCP 8-bit Floating Point Specification v1.0 (E4M3, E5M2); OCP Microscaling Formats
    Specification v1.0, section 5.3 (E3M2, E2M3, E2M1).
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int = None  # type: ignore[assignment]  # filled in by __post_init__
    specials: str = "none"
    subnormals: bool = True
    overflow: str = "saturate"
    grid: kernel.Grid = field(init=False, repr=False, compare=False)
    """The numbers that kernels take."""
    numbers: tuple[Any, ...] = field(init=False, repr=False, compare=False)
    """The fields of `grid`."""

    def __post_init__(self) -> None:
        for name, low, high in (("exponent_bits", 1, 8), ("mantissa_bits", 0, 10)):
            value = getattr(self, name)
            _require_integer(name, value)
            if not low <= value <= high:
                raise ValueError(f"`{name}` must be from {low} to {high}; got {name}={value}.")
        if self.bias is None:
            object.__setattr__(self, "bias", (1 << (self.exponent_bits - 1)) - 1)
        _require_integer("bias", self.bias)
        for name, known in (("specials", _SPECIALS), ("overflow", _OVERFLOWS)):
            if getattr(self, name) not in known:
                choices = ", ".join(map(repr, known))
                raise ValueError(f"`{name}` must be one of {choices}; got {getattr(self, name)!r}.")
        self._require_numbers()
        object.__setattr__(self, "grid", self._grid())
        object.__setattr__(self, "numbers", fields(self.grid))

    def _require_numbers(self) -> None:
        if self.overflow == "nonfinite" and self.specials == "none":
            raise ValueError(
                "`overflow='nonfinite'` needs an infinity or a NaN to overflow to; got "
                "specials='none'. Use overflow='saturate'."
            )
        if self.specials == "ieee" and not self.mantissa_bits:
            raise ValueError(
                "`specials='ieee'` needs mantissa bits to tell NaN from infinity; got "
                "mantissa_bits=0. Use specials='nan'."
            )
        first = 1 if self.subnormals else 1 << self.mantissa_bits
        if self._largest_code < first:
            raise ValueError(f"A format needs a number above 0; got none in {self!r}.")
        top = (self._largest_code >> self.mantissa_bits) - self.bias
        if top > 127 or 1 - self.bias - self.mantissa_bits < -149:
            raise ValueError(
                "Every number must be a float32, from 2^-149 to 2^128; got the smallest "
                f"2^{1 - self.bias - self.mantissa_bits} and a largest exponent of {top}. Change "
                f"`bias` (bias={self.bias}), or use specials='ieee' with 8 exponent bits."
            )

    @property
    def bits(self) -> int:
        """Bits of a code, sign included."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def code_dtype(self) -> torch.dtype:
        """Storage of a code: uint8 up to 8 bits, int16 above."""
        return kernel.code_dtype(self.bits)

    @property
    def emax(self) -> int:
        """Exponent of the largest number: floor(log2(largest))."""
        return math.frexp(self.largest)[1] - 1

    @property
    def largest(self) -> float:
        """Largest finite number."""
        field = self._largest_code >> self.mantissa_bits
        fraction = self._largest_code & ((1 << self.mantissa_bits) - 1)
        steps = fraction + (min(field, 1) << self.mantissa_bits)
        return float(steps * 2.0 ** (max(field, 1) - self.bias - self.mantissa_bits))

    @property
    def smallest(self) -> float:
        """Smallest positive number, subnormal where there are such."""
        if not self.subnormals or not self.mantissa_bits:
            return self.smallest_normal
        return math.ldexp(1.0, 1 - self.bias - self.mantissa_bits)

    @property
    def smallest_normal(self) -> float:
        """Smallest positive number of full precision: 2^(1 - bias)."""
        return math.ldexp(1.0, 1 - self.bias)

    @property
    def max_relative_error(self) -> float:
        """Worst |q(x) - x| / |x| of nearest rounding among normal numbers: 1 / (2^(m + 1) + 1)."""
        return 1 / ((2 << self.mantissa_bits) + 1)

    def _grid(self) -> kernel.Grid:
        top = (1 << (self.bits - 1)) - 1
        infinity = ((1 << self.exponent_bits) - 1) << self.mantissa_bits
        nan = {"none": None, "nan": top, "ieee": infinity | 1 << max(0, self.mantissa_bits - 1)}
        return kernel.Grid(
            bits=self.bits,
            mantissa_bits=self.mantissa_bits,
            lowest=1 - self.bias,
            largest=self.largest,
            subnormals=self.subnormals,
            infinity=infinity if self.specials == "ieee" else None,
            nan=nan[self.specials],
            saturate=self.overflow == "saturate",
        )

    @property
    def _largest_code(self) -> int:
        """Code of the largest finite number."""
        if self.specials == "ieee":
            return (((1 << self.exponent_bits) - 1) << self.mantissa_bits) - 1
        return (1 << (self.bits - 1)) - (2 if self.specials == "nan" else 1)

    # -- tensors -----------------------------------------------------------------------------

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
        """Codes and scale of a tensor.

        Args:
            x: Real floating-point tensor of any shape.
            axis: None for one scale; a dimension, or several, whose every index gets a scale of its
                own.
            rounding: ``"nearest"`` (ties to even) or ``"stochastic"`` (one of the two neighbours,
                unbiased up to the largest number, in odds of 2^-24).
            generator: For stochastic rounding: a torch.Generator, from which one number is drawn,
                or a `CounterSource`.
            scale: Factor of a code's value, positive, broadcastable to `x` (of shape (..., blocks)
                with `block`); ``"amax"`` for the largest magnitude over `largest`. Default: 1
                without an axis and a block, else ``"amax"``.
            block: Give blocks of so many elements along the last dimension a scale each.
            nonfinite: ``"raise"``; ``"propagate"``: NaN and infinity stay what they are, or NaN,
                where the format has such, else their group gets scale NaN; ``"saturate"``:
                infinity becomes the largest number, NaN is refused. They have no say in
                automatic scales.

        Returns:
            `Encoded`: codes of x's shape, scale, and x's dtype.

        Raises:
            ValueError: NaN or infinity that `nonfinite` refuses; a scale that is not positive and
                finite; unknown rounding or scale; no such axis; a block that is not positive.
            TypeError: x is not a real floating-point tensor.
        """
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
        if rounding == "nearest" and axis is None and scale is None and block is None:
            values = rows.plain_cast(self, x, nonfinite)
            if values is not None:
                return values
        return rows.quantize_along(self, x, axis, rounding, generator, scale, block, nonfinite, dim)


def _require_integer(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer; got {value!r}.")
