"""Microscaling formats: blocks of small numbers that share a power-of-two scale."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rung.formats import _mx_codes
from rung.formats._elements import element as element_of
from rung.formats._elements import element_name
from rung.formats._encoded import Encoded
from rung.formats._minifloat_rows import (
    finish,
    flat_draws,
    largest_of,
    require_no_nan,
    require_policy,
)
from rung.formats._mx_blocks import Blocks, blocks_of
from rung.formats._source import CounterSource
from rung.formats.fixed_point import FixedPoint
from rung.formats.grouping import Axis
from rung.formats.minifloat import Minifloat
from rung.formats.packing import Packed
from rung.formats.scaling import require_finite, require_real
from rung.kernels import mx as scales
from rung.kernels.mx_round import fields, mx_decode, mx_encode, mx_quantize


@dataclass(frozen=True)
class MX:
    """Blocks of elements with a shared scale: x = 2^s * value(code), one s for a block.

    The scale is an E8M0 code: uint8, 127 + s with -127 <= s <= 127, or 255 for a block of NaN. It
    comes from the block's largest magnitude amax, of which the element's largest number is
    (1 + fraction) * 2^emax:

        floor   s = floor(log2 amax) - emax                       the specification's; saturates
        ceil    s = ceil(log2 amax) - emax                        never saturates beyond 2^emax
        even    floor, after rounding amax to the element's mantissa bits (half up)
        rceil   s = ceil(log2(amax / largest))                    the smallest without saturation

    all decided exactly; a block of zeros has s = -127. Elements are x * 2^-s rounded to nearest,
    ties to even, saturating, with subnormals; float64 input is rounded once. Decoded values stay
    finite: what would round up beyond the largest number of the dtype becomes that number.

    Args:
        element: One of the six that MX defines, or its name: ``"fp8_e4m3"``, ``"fp8_e5m2"``,
            ``"fp6_e3m2"``, ``"fp6_e2m3"``, ``"fp4_e2m1"``, ``"int8"``.
        block_size: Elements that share a scale, 1 or more; the last block of a row may be shorter.
        scale_rule: ``"floor"``, ``"ceil"``, ``"even"`` or ``"rceil"``.

    Raises:
        ValueError: An element that MX does not define, a block size that is not positive, an
            unknown rule.
        TypeError: A block size that is not an integer.

    Example:
        >>> fmt = MX("fp4_e2m1", block_size=4)
        >>> fmt.quantize(torch.tensor([0.1, -0.7, 5.0, 0.0, 1.0, 0.3]))
        tensor([ 0.0000, -0.5000,  4.0000,  0.0000,  1.0000,  0.2500])
        >>> fmt.encode(torch.tensor([0.1, -0.7, 5.0, 0.0, 1.0, 0.3])).scale
        tensor([127, 125], dtype=torch.uint8)

    Source: OCP Microscaling Formats (MX) Specification v1.0, sections 5 and 6.
    """

    element: Minifloat | FixedPoint
    block_size: int
    scale_rule: str
    _numbers: tuple[Any, ...] = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        element: Minifloat | FixedPoint | str,
        block_size: int = 32,
        scale_rule: str = "floor",
    ) -> None:
        if isinstance(block_size, bool) or not isinstance(block_size, int):
            raise TypeError(f"`block_size` must be an integer; got {block_size!r}.")
        if block_size < 1:
            raise ValueError(
                f"`block_size` must be 1 or more elements; got block_size={block_size}. The "
                "specification's is 32."
            )
        if scale_rule not in scales.RULES:
            raise ValueError(
                f"`scale_rule` must be one of {', '.join(map(repr, scales.RULES))}; got "
                f"{scale_rule!r}."
            )
        object.__setattr__(self, "element", element_of(element))
        object.__setattr__(self, "block_size", block_size)
        object.__setattr__(self, "scale_rule", scale_rule)
        object.__setattr__(self, "_numbers", (*fields(self.rule), *self.element.numbers))

    @property
    def bits(self) -> int:
        """Bits of an element's code, without its share of the scale."""
        return self.element.bits

    @property
    def bits_per_element(self) -> float:
        """Bits of an element with its share of the scale, in full blocks."""
        return self.bits + 8 / self.block_size

    @property
    def code_dtype(self) -> torch.dtype:
        """Storage of an element's code before `pack`: uint8."""
        return self.element.code_dtype

    @property
    def max_relative_error(self) -> float:
        """Worst |q(x) - x| / |x| of nearest rounding where a block's elements are normal numbers.

        By the rules ``"floor"`` and ``"even"`` the largest elements of a block may saturate, which
        can cost more than rounding: 25 % in MX("fp4_e2m1"), where 7.99 becomes 6.
        """
        # The largest magnitude that a block of scale 1 can have.
        reach = math.ldexp(self.rule.fraction, self.rule.emax + 1)
        return max(self.element.max_relative_error, 1 - self.element.largest / reach)

    @property
    def short(self) -> str:
        """The format in an error's text: ``MX('fp4_e2m1', 32, 'floor')``."""
        return f"MX({element_name(self.element)!r}, {self.block_size}, {self.scale_rule!r})"

    @property
    def rule(self) -> scales.Rule:
        """The scale rule in the numbers that kernels take."""
        return scales.rule_of(self.scale_rule, self.element.grid)

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
        dim: int = -1,
    ) -> Encoded:
        """Codes and scale codes of a tensor.

        Args:
            x: Real floating-point tensor with at least one dimension.
            axis: None: a block has a scale of its own.
            rounding: ``"nearest"`` (ties to even) or ``"stochastic"`` (one of the two neighbours,
                unbiased where nothing saturates, in odds of 2^-24).
            generator: For stochastic rounding: a torch.Generator, from which one number is drawn,
                or a `CounterSource`.
            scale: None, as `axis`.
            block: None, as `axis`; the length of blocks is `block_size`.
            nonfinite: ``"raise"``; ``"propagate"``: a block that holds NaN or infinity becomes NaN
                as a whole; ``"saturate"``: infinity counts as the largest number of x's dtype, NaN
                is refused.
            dim: Dimension along which blocks run: the one that a product sums over.

        Returns:
            `Encoded`: codes of x's shape; scale codes, uint8, in x's shape with `dim` replaced by
            the number of blocks; x's dtype; `block` and `dim`.

        Raises:
            ValueError: NaN or infinity that `nonfinite` refuses; an axis, a block or a scale;
                unknown rounding; no such dimension.
            TypeError: x is not a real floating-point tensor.
        """
        blocks, rows, draws = self._prepare(
            x, axis, rounding, generator, scale, block, nonfinite, dim
        )
        codes, scale_codes = mx_encode(rows, draws, self.block_size, *self._numbers)
        _refuse(scale_codes, nonfinite, x)
        return Encoded(
            blocks.from_rows(codes).contiguous(),
            None,
            blocks.from_rows(scale_codes).contiguous(),
            x.dtype,
            self.block_size,
            blocks.dim,
        )

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

        The result lies in memory with `dim` innermost: it is contiguous for the last dimension.
        """
        blocks, rows, draws = self._prepare(
            x, axis, rounding, generator, scale, block, nonfinite, dim
        )
        most = largest_of(x.dtype)
        values, scale_codes = mx_quantize(rows, draws, self.block_size, most, *self._numbers)
        _refuse(scale_codes, nonfinite, x)
        return blocks.from_rows(values.to(x.dtype))

    def decode(self, encoded: Encoded) -> Tensor:
        """Values of codes: same shape as the codes, dtype of the tensor that was encoded.

        Raises:
            ValueError: Blocks of another size or of no dimension, scale codes of another shape,
                codes that this format doesn't have.
            TypeError: Codes or scale codes that are not uint8.
        """
        blocks = _mx_codes.own_blocks(self, encoded)
        wide = torch.float64 if encoded.dtype == torch.float64 else torch.float32
        values = self._decode(blocks, encoded.codes, encoded.scale, wide)
        if encoded.dtype == wide:
            return values
        ones = torch.ones_like(values[..., :1])
        return finish(values, ones, self.element.grid, encoded.dtype)

    def decode_codes(self, codes: Tensor, scale_codes: Tensor, dim: int = -1) -> Tensor:
        """float32 values of codes.

        Args:
            codes: uint8, any shape with at least one dimension.
            scale_codes: uint8, the codes' shape with `dim` replaced by the number of blocks.
            dim: Dimension along which blocks run.

        Raises:
            ValueError: No such dimension; scale codes of another shape; codes that this format
                doesn't have.
            TypeError: Codes or scale codes that are not uint8.
        """
        blocks = blocks_of(codes.shape, dim, self.block_size)
        _mx_codes.require_codes(self, blocks, codes, scale_codes)
        return self._decode(blocks, codes, scale_codes, torch.float32)

    def pack(self, encoded: Encoded) -> Packed:
        """Codes next to each other without spare bits, each block from a byte on.

        Args:
            encoded: What `encode` of this format returned.

        Raises:
            ValueError, TypeError: As `decode`.
        """
        return _mx_codes.pack(self, encoded)

    def unpack(self, packed: Packed) -> Encoded:
        """The inverse of `pack`.

        Raises:
            ValueError: Bytes or scale codes that don't fit the shape.
            TypeError: Bytes or scale codes that are not uint8.
        """
        return _mx_codes.unpack(self, packed)

    # -- behind them -------------------------------------------------------------------------

    def _prepare(
        self,
        x: Tensor,
        axis: Axis,
        rounding: str,
        generator: torch.Generator | CounterSource | None,
        scale: Tensor | float | str | None,
        block: int | None,
        nonfinite: str,
        dim: int,
    ) -> tuple[Blocks, Tensor, Tensor | None]:
        """Rows along the dimension and random words for them, after all checks but for NaN."""
        require_real(x)
        require_policy(nonfinite)
        for name, value in (("axis", axis), ("scale", scale), ("block", block)):
            if value is not None:
                raise ValueError(
                    f"MX has a scale for every block of its own, `{name}` must be None; got "
                    f"{name}={value!r}. Give `dim` for the direction of blocks, and `block_size` "
                    "and `scale_rule` to MX itself."
                )
        blocks = blocks_of(x.shape, dim, self.block_size)
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        # Kernels read memory: a lazily negated view has not written its signs there.
        rows = blocks.to_rows(x.detach().resolve_neg().to(dtype))
        if nonfinite == "saturate":
            require_no_nan(x)
            most = torch.finfo(x.dtype).max
            rows = torch.where(torch.isinf(rows), torch.sign(rows) * most, rows)
        draws = flat_draws(x, rounding, generator)
        return blocks, rows, None if draws is None else blocks.to_rows(draws)

    def _decode(
        self, blocks: Blocks, codes: Tensor, scale_codes: Tensor, dtype: torch.dtype
    ) -> Tensor:
        rows, scale_rows = blocks.to_rows(codes), blocks.to_rows(scale_codes)
        wide, numbers = dtype == torch.float64, self.element.numbers
        return blocks.from_rows(mx_decode(rows, scale_rows, self.block_size, wide, *numbers))


def _refuse(scale_codes: Tensor, nonfinite: str, x: Tensor) -> None:
    """Refuse values that are not finite, as the scales of their blocks say."""
    if nonfinite != "raise" or not scale_codes.numel():
        return
    if scale_codes.amax().item() == scales.NAN_SCALE:
        require_finite(x)
