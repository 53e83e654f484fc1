"""The logarithmic number system: a sign and an integer exponent of a root of two."""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rung.formats import _signed_rows as rows
from rung.formats._encoded import Encoded
from rung.formats._source import CounterSource
from rung.formats.grouping import Axis
from rung.kernels import lns as kernel
from rung.kernels.lns_round import lns_decode, lns_round

_LARGEST_BASE_FACTOR = 2048


@dataclass(frozen=True)
class LNS:
    """Multi-base logarithmic number system of LNS-Madam: B bits, gamma codes per octave.

        x = sign * s * 2^(e / gamma),   e in {0, 1, ..., 2^(B-1) - 1}
        e = clamp(round(gamma * log2(|x| / s)), 0, 2^(B-1) - 1),   rounding in the log domain

    The sign is the top bit of a code, e the others: uint8 for B <= 8, int16 above. What `encode`
    stores as `scale` is the value of the largest code, s * 2^((2^(B-1) - 1) / gamma), which is the
    largest magnitude of its group unless given: so the largest magnitude is kept exactly and
    rounding to nearest twice changes nothing. Rounding decisions are exact for float32 (and
    narrower) input: boundaries are irrational multiples of the scale, there are no ties, and
    comparing is done in integers. Decoded values are fl(scale * fl(2^((e - last) / gamma))), within
    1.5 units in the last place of float32; where the system reaches below float32's range (few
    codes an octave, or a tiny scale) values become subnormal or 0 there.

    Zero: with ``zero=False`` nothing decodes to 0 and a 0 becomes the smallest code (with its own
    sign bit); with ``zero=True`` the code e = 0 is exactly 0, at the price of one rung of range. A
    group of zeros only has scale 0, unless one is given, and decodes to 0 either way.

    Args:
        bits: B, 3 to 16, sign included.
        base_factor: gamma, codes per octave: a power of two from 1 to 2048.
        zero: Whether code e = 0 is exactly 0 (activations, gradients).
        underflow: Magnitudes under the smallest code ``"saturate"`` to it, or ``"flush"`` to zero
            (needs ``zero=True``): rounding to nearest flushes from half a rung under it on,
            stochastic rounding chooses between 0 and the smallest code without bias.
        power_of_two_scale: Round every scale that isn't given up to a power of two, which hardware
            applies by a shift. The grid of values then is the same for every scale.

    Raises:
        ValueError: A number out of range, `base_factor` not a power of two, an unknown `underflow`,
            flushing without a zero.
        TypeError: `bits` or `base_factor` is not an integer.

    Example:
        >>> fmt = LNS(bits=8, base_factor=8)
        >>> fmt.octaves, round(fmt.max_relative_error, 3)
        (15.875, 0.044)
        >>> encoded = fmt.encode(torch.tensor([1.0, -0.5, 0.3]))
        >>> encoded.codes
        tensor([127, 247, 113], dtype=torch.uint8)
        >>> fmt.decode(encoded)
        tensor([ 1.0000, -0.5000,  0.2973])

    Source: Zhao et al. 2021, "LNS-Madam: Low-Precision Training in Logarithmic Number System using
    Multiplicative Weight Update", arXiv:2106.13914.
    """

    bits: int
    base_factor: int
    zero: bool = False
    underflow: str = "saturate"
    power_of_two_scale: bool = False
    numbers: tuple[int, int, bool, bool] = field(init=False, repr=False, compare=False)
    """bits, base_factor, zero, whether to flush: arguments of the kernels."""

    def __post_init__(self) -> None:
        for name in ("bits", "base_factor"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"`{name}` must be an integer; got {value!r}.")
        if not 3 <= self.bits <= 16:
            raise ValueError(f"`bits` must be from 3 to 16; got bits={self.bits}.")
        factor = self.base_factor
        if not 1 <= factor <= _LARGEST_BASE_FACTOR or factor & (factor - 1):
            raise ValueError(
                f"`base_factor` must be a power of two from 1 to {_LARGEST_BASE_FACTOR} (codes per "
                f"octave); got base_factor={factor}."
            )
        if self.underflow not in ("saturate", "flush"):
            raise ValueError(f"`underflow` must be 'saturate' or 'flush'; got {self.underflow!r}.")
        if self.underflow == "flush" and not self.zero:
            raise ValueError(
                "`underflow='flush'` needs a zero to flush to; got zero=False. Use zero=True."
            )
        numbers = (self.bits, factor, bool(self.zero), self.underflow == "flush")
        object.__setattr__(self, "numbers", numbers)

    @property
    def levels(self) -> int:
        """Exponent codes, 2^(B-1); with ``zero=True`` one of them is 0."""
        return 1 << (self.bits - 1)

    @property
    def octaves(self) -> float:
        """Log2 of the largest magnitude over the smallest that is not 0."""
        return (self.levels - 1 - self.zero) / self.base_factor

    @property
    def dynamic_range(self) -> float:
        """Largest magnitude over the smallest that is not 0: 2^octaves."""
        return float(2.0**self.octaves) if self.octaves < 1024 else math.inf

    @property
    def smallest(self) -> float:
        """Smallest magnitude that is not 0, as a fraction of the scale: 2^-octaves."""
        return float(2.0**-self.octaves)

    @property
    def max_relative_error(self) -> float:
        """Worst |q(x) - x| / |x| of nearest rounding inside the range: 2^(1 / (2 gamma)) - 1."""
        return float(2.0 ** (0.5 / self.base_factor) - 1)

    @property
    def code_dtype(self) -> torch.dtype:
        """Storage of a code: uint8 up to 8 bits, int16 above."""
        return kernel.code_dtype(self.bits)

    @property
    def grid(self) -> kernel.Grid:
        """The numbers that kernels take."""
        return kernel.Grid(self.bits, self.base_factor, self.zero, self.underflow == "flush")

    def with_zero(self) -> "LNS":
        """This format with code e = 0 as exactly 0."""
        return replace(self, zero=True)

    # -- codes of fewer bits -----------------------------------------------------------------

    def shift_from(self, fine: "LNS") -> int | None:
        """Low bits of `fine`'s codes to drop to get this format's codes, or None.

        A number where both span the same exponents, gamma_fine = gamma * 2^(B_fine - B), and
        neither has a zero.
        """
        by = fine.bits - self.bits
        fits = by >= 0 and fine.base_factor == self.base_factor << by
        return by if fits and not fine.zero and not self.zero else None

    def shifted(self, codes: Tensor, scale: Tensor, fine: "LNS") -> tuple[Tensor, Tensor]:
        """This format's codes and scale from `fine`'s, by a shift; no value is decoded.

        The exponent is rounded to its upper bits (nearest, ties to even, saturating at the top).
        Both systems share s, the value of e = 0; the largest codes differ in value, so the scale
        changes by a constant.

        Args:
            codes: Stored codes of `fine`.
            scale: Their scale.
            fine: A format for which `shift_from` gives a number.

        Returns:
            Stored codes of this format, and their scale.

        Raises:
            ValueError: This format's codes are no shift of `fine`'s.

        Source: Zhao et al. 2021, arXiv:2106.13914: the update's base factor is gamma * 2^(B_U - B).
        """
        by = self._shift_or_refuse(fine)
        codes = kernel.shift_codes(codes, fine.bits, by) if by else codes
        return codes, self._scale_after_shift(scale, fine, by)

    def _shift_or_refuse(self, fine: "LNS") -> int:
        by = self.shift_from(fine)
        if by is None:
            raise ValueError(
                "The fine format must have gamma_fine = gamma * 2^(B_fine - B), and neither a "
                f"zero; got {fine} for {self}. Decode and encode instead."
            )
        return by

    def _scale_after_shift(self, scale: Tensor, fine: "LNS", by: int) -> Tensor:
        # Both share s; the largest code of the coarse format lies a little lower.
        lost = fine.levels - 1 - ((self.levels - 1) << by)
        return scale * 2.0 ** (-lost / fine.base_factor) if lost else scale

    # -- tensors -----------------------------------------------------------------------------

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
                own: 0 for output channels, ``tuple(range(x.ndim - 1))`` for rows (tokens).
            rounding: ``"nearest"`` (in the log domain) or ``"stochastic"`` (one of the two
                neighbours, unbiased in the decoded value).
            generator: For stochastic rounding: a torch.Generator, from which one number is drawn,
                or a `CounterSource`.
            scale: Value of the largest code, 0 or more, broadcastable to `x` (of shape
                (..., blocks) with `block`). Default: the largest magnitude of each group.
            block: Give blocks of so many elements along the last dimension a scale each.
            nonfinite: ``"raise"``, or ``"propagate"``: a group that holds NaN or infinity gets
                scale NaN and decodes to NaN as a whole.

        Returns:
            `Encoded`: codes of x's shape, scale, and x's dtype.

        Raises:
            ValueError: x holds NaN or infinity and `nonfinite` is ``"raise"``; a scale that is
                negative or not finite; unknown rounding; no such axis; a block that is not
                positive.
            TypeError: x is not a real floating-point tensor.
        """
        return rows.encode(self, x, axis, rounding, generator, scale, block, nonfinite)

    def decode(self, encoded: Encoded) -> Tensor:
        """Values of codes: same shape as the codes, dtype of the tensor that was encoded."""
        values = self._decode(encoded.codes, encoded.scale, 0, encoded.block or 0)
        return rows.narrow(values, encoded.dtype)

    def decode_codes(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Values of stored codes; scale broadcastable to them, its dtype is the result's."""
        return self._decode(codes, scale, 0, 0)

    def decode_shifted(self, codes: Tensor, scale: Tensor, fine: "LNS") -> Tensor:
        """``decode_codes(*shifted(codes, scale, fine))`` in one pass.

        Raises:
            ValueError: This format's codes are no shift of `fine`'s.
        """
        by = self._shift_or_refuse(fine)
        return self._decode(codes, self._scale_after_shift(scale, fine, by), by, 0)

    def _decode(self, codes: Tensor, scale: Tensor, drop: int, block: int) -> Tensor:
        bits, base_factor, zero, _ = self.numbers
        values: Tensor = lns_decode(codes, scale, bits, base_factor, zero, drop, block)
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
        """``decode(encode(x))``: the same shape and dtype, values of the number system."""
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
        """Values or stored codes of a matrix, and scales: `rung.kernels.lns_round`."""
        found: tuple[Tensor, Tensor] = lns_round(
            rows, scale, source, draws, *self.numbers, block, scale_rows, codes
        )
        return found
