"""Small floating-point (and fixed-point) numbers on plain tensors: round, encode, decode.

A number is sign * 2^(e - m) * k with an integer k < 2^(m + 1), where e is the exponent of its
octave and at least `lowest`: below the smallest normal number steps stay equal. Fixed point is the
case in which everything lies below it. Codes hold the sign in the top bit (two's complement for
fixed point), uint8 up to 8 bits and int16 above.

This file is the reference, on every device and under torch.compile; on the CPU `cpu.mx` is fast.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

# Exponent bias, mantissa bits and integer type of the floating-point types that are computed in.
_LAYOUT = {torch.float32: (127, 23, torch.int32), torch.float64: (1023, 52, torch.int64)}


@dataclass(frozen=True)
class Grid:
    """The numbers of a format that kernels need.

    Attributes:
        bits: Bits of a code, sign included.
        mantissa_bits: m, steps per octave are 2^m.
        lowest: Exponent of the smallest normal number: steps don't shrink below it.
        largest: Largest finite magnitude.
        subnormals: Whether there are numbers between 0 and 2^lowest.
        fixed: Whether codes are two's complement integers (then every number is "subnormal").
        infinity: Magnitude code of infinity, or None.
        nan: Magnitude code of NaN, or None.
        saturate: Whether finite magnitudes beyond the largest become the largest; otherwise
            infinity, or NaN without one.
    """

    bits: int
    mantissa_bits: int
    lowest: int
    largest: float
    subnormals: bool = True
    fixed: bool = False
    infinity: int | None = None
    nan: int | None = None
    saturate: bool = True

    @property
    def step(self) -> int:
        """Exponent of the distance between the smallest numbers."""
        return self.lowest - self.mantissa_bits


def code_dtype(bits: int) -> torch.dtype:
    """The storage of one code: uint8 up to 8 bits, int16 above."""
    return torch.uint8 if bits <= 8 else torch.int16


def native_dtype(grid: Grid) -> torch.dtype | None:
    """The dtype of torch with these numbers and codes: bfloat16, float16, or None.

    None inside a graph too: a compiler may take a cast there and back for nothing at all.
    """
    known = {(7, -126): torch.bfloat16, (10, -14): torch.float16}
    ieee = grid.bits == 16 and grid.infinity is not None and grid.subnormals
    if not ieee or torch.compiler.is_compiling():
        return None
    return known.get((grid.mantissa_bits, grid.lowest))


def casts(grid: Grid, stochastic: bool) -> bool:
    """Whether loops over float32 can round to a grid: saturating, and well inside float32."""
    if not (grid.saturate and grid.subnormals and grid.mantissa_bits):
        return False
    # Magic numbers and steps must be normal float32.
    inside = grid.largest < 2.0 ** (100 + grid.mantissa_bits) and grid.step >= -100
    return inside or (not stochastic and native_dtype(grid) is not None)


def power_of_two(exponent: Tensor, dtype: torch.dtype) -> Tensor:
    """2^exponent without rounding, for exponents of normal numbers of float32 or float64."""
    bias, mantissa, integer = _LAYOUT[dtype]
    return ((exponent.to(integer) + bias) << mantissa).view(dtype)


def round_reference(values: Tensor, grid: Grid, draws: Tensor | None = None) -> Tensor:
    """Values rounded to the grid.

    Args:
        values: float32 or float64 of any shape. NaN stays; infinity overflows like large values.
        grid: The format.
        draws: float32 uniforms in [0, 1) that broadcast to the values, for stochastic rounding to
            one of the two neighbours (unbiased to 2^-24 steps); None rounds to nearest, ties to
            the even code.

    Returns:
        Tensor of the values' shape and dtype; signs of zeros stay (fixed point has +0 alone).
    """
    dtype = values.dtype
    if dtype == torch.float32 and grid.step < -126:
        values = values.double()  # a step must be a normal number
    bias, mantissa, integer = _LAYOUT[values.dtype]
    # No finite result needs more, and steps of larger numbers could overflow.
    sizes = values.abs().clamp(max=min(2.0 * grid.largest, torch.finfo(values.dtype).max))
    octave = ((sizes.view(integer) >> mantissa) - bias).clamp(min=grid.lowest)
    exponent = octave - grid.mantissa_bits
    if not grid.subnormals:
        exponent = torch.where(sizes < 2.0**grid.lowest, grid.lowest, exponent)
    step = power_of_two(exponent, values.dtype)
    position = sizes / step  # exact: a division by a power of two
    if draws is None and not grid.mantissa_bits:
        # Two octaves' numbers are one step of theirs each: the code's parity is the octave's.
        up = 1.0 + ((octave - grid.lowest) & 1 == 0).to(values.dtype)
        position = torch.where(position == 1.5, up, torch.round(position))
    elif draws is None:
        position = torch.round(position)
    else:
        below = torch.floor(position)
        position = below + (draws < position - below).to(values.dtype)
    rounded = position * step
    beyond = rounded > grid.largest
    over = grid.largest if grid.saturate else torch.nan if grid.infinity is None else torch.inf
    rounded = torch.where(beyond, over, rounded)
    rounded = torch.copysign(rounded, values)
    return (rounded + 0.0 if grid.fixed else rounded).to(dtype)


def codes_reference(values: Tensor, grid: Grid) -> Tensor:
    """Stored codes of values on the grid (what `round_reference` returns)."""
    native = native_dtype(grid)
    if native is None:
        return _codes(values, grid)
    codes = values.to(native).view(torch.int16)
    # Which NaN a cast writes depends on the machine.
    assert grid.nan is not None
    ours = (torch.signbit(values).to(torch.int16) << 15) | grid.nan
    return torch.where(torch.isnan(values), ours, codes)


def _codes(values: Tensor, grid: Grid) -> Tensor:
    if values.dtype == torch.float32 and grid.step < -126:
        values = values.double()
    bias, mantissa, integer = _LAYOUT[values.dtype]
    sizes = torch.where(torch.isfinite(values), values.abs(), 0.0)
    # Below the smallest normal number a code counts steps; above, it is the float's own upper bits.
    counted = (sizes * 2.0**-grid.step).to(integer)
    first = (bias + grid.lowest - 1) << grid.mantissa_bits
    upper = (sizes.view(integer) >> (mantissa - grid.mantissa_bits)) - first
    codes = torch.where(sizes < 2.0**grid.lowest, counted, upper)
    if not grid.subnormals:  # all that is left under the smallest normal number is 0
        codes = torch.where(sizes < 2.0**grid.lowest, 0, codes)
    if grid.infinity is not None:
        codes = torch.where(torch.isinf(values), grid.infinity, codes)
    if grid.nan is not None:
        codes = torch.where(torch.isnan(values), grid.nan, codes)
    negative = torch.signbit(values)
    if grid.fixed:
        codes = torch.where(negative, -codes, codes) & ((1 << grid.bits) - 1)
    else:
        codes = codes | (negative.to(integer) << (grid.bits - 1))
    if grid.bits == 16:  # the top bit is int16's own sign bit
        codes = torch.where(codes >= 1 << 15, codes - (1 << 16), codes)
    return codes.to(code_dtype(grid.bits))


def values_reference(codes: Tensor, grid: Grid, dtype: torch.dtype) -> Tensor:
    """Values of stored codes at scale 1, in float32 or float64; exact."""
    native = native_dtype(grid)
    if native is not None and codes.dtype == torch.int16:
        return codes.view(native).to(dtype)
    if grid.bits <= 8 and type(codes) is Tensor and not torch.compiler.is_compiling():
        table = _value_table(grid, dtype, codes.device)
        return table.index_select(0, codes.reshape(-1).to(torch.int32)).reshape(codes.shape)
    return _values(codes, grid).to(dtype)


@functools.cache
def _value_table(grid: Grid, dtype: torch.dtype, device: torch.device) -> Tensor:
    codes = torch.arange(1 << grid.bits, dtype=torch.int32, device="cpu")
    return _values(codes, grid).to(device=device, dtype=dtype)


def value_table(grid: Grid) -> Tensor:
    """float32 value of every code of a format of up to 8 bits, on the CPU; shape (2^bits,)."""
    return _value_table(grid, torch.float32, torch.device("cpu"))


def _values(codes: Tensor, grid: Grid) -> Tensor:
    """float64 values of codes, by the definition of the format."""
    wide = codes.to(torch.int64) & ((1 << grid.bits) - 1)
    top = 1 << (grid.bits - 1)
    negative = wide >= top
    if grid.fixed:
        signed = torch.where(negative, wide - 2 * top, wide)
        return signed.to(torch.float64) * 2.0**grid.step
    size = wide & (top - 1)
    field = size >> grid.mantissa_bits
    fraction = size & ((1 << grid.mantissa_bits) - 1)
    normal = field > 0
    steps = fraction + (normal.to(torch.int64) << grid.mantissa_bits)
    if not grid.subnormals:
        steps = torch.where(normal, steps, 0)
    values = steps.to(torch.float64) * power_of_two(
        (field - 1).clamp(min=0) + grid.step, torch.float64
    )
    if grid.nan is not None:
        beyond = size > (grid.nan - 1 if grid.infinity is None else grid.infinity)
        values = torch.where(beyond, torch.nan, values)
    if grid.infinity is not None:
        values = torch.where(size == grid.infinity, torch.inf, values)
    return torch.where(negative, -values, values)
