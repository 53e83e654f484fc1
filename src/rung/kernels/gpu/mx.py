"""The operators of `mx_round` on a GPU: blocks of shared power-of-two scales, in one pass."""

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from rung.kernels import mx_round
from rung.kernels.gpu.chunks import bits_of, float_of
from rung.kernels.gpu.groups import (
    LONGEST,
    Layout,
    along,
    largest,
    layout_of,
    magnitudes,
    nothing,
    tile,
)
from rung.kernels.gpu.jit import Value, jit, on
from rung.kernels.gpu.minifloats import (
    codes_of,
    constants,
    fits,
    rounded,
    scaled_back,
    values_of,
)
from rung.kernels.minifloat import Grid, native_dtype
from rung.kernels.mx import Rule

_FRACTION, _INFINITE, _NAN = (
    tl.constexpr(0x7FFFFF),
    tl.constexpr(0x7F800000),
    tl.constexpr(0x7FC00000),
)
_NAN_SCALE = tl.constexpr(255)


def _threshold(rule: Rule) -> int:
    """Significands of 24 bits from here on take the next exponent."""
    reach = rule.fraction * 2**24
    return int(reach) + (not (rule.inclusive and reach == int(reach)))


@jit
def _scale_codes(most: Value, EMAX: tl.constexpr, THRESHOLD: tl.constexpr) -> Value:
    """`mx.scale_codes_reference` of the bits of largest magnitudes."""
    small = most <= _FRACTION  # subnormal numbers
    bits = tl.where(small, bits_of(float_of(most) * 16777216.0), most)
    exponent = (bits >> 23) - tl.where(small, 24, 0) - 127
    up = ((bits & _FRACTION) | (1 << 23)) >= THRESHOLD
    code = tl.minimum(tl.maximum(exponent - EMAX + up.to(tl.int32), -127), 127) + 127
    return tl.where(most < _INFINITE, tl.where(most > 0, code, 0), _NAN_SCALE)


@jit
def _power(codes: Value) -> Value:
    """`mx.scale_values`: 2^(code - 127) of int32 codes, NaN for 255."""
    bits = tl.where(codes == 0, 1 << 22, codes << 23)
    return float_of(tl.where(codes == _NAN_SCALE, _NAN, bits))


@jit
def _quantize(
    rows: Value, draws: Value, result: Value, scales: Value, most: Value, groups: Value,
    blocks: Value, parts: Value, length: Value, block: Value, scale_rows: Value, G: tl.constexpr,
    P: tl.constexpr, EMAX: tl.constexpr, THRESHOLD: tl.constexpr, BITS: tl.constexpr,
    MANTISSA: tl.constexpr, LOWEST: tl.constexpr, LARGEST: tl.constexpr,
    SUBNORMALS: tl.constexpr, FIXED: tl.constexpr, STOCHASTIC: tl.constexpr, CODES: tl.constexpr,
) -> None:  # fmt: skip
    index, mask, at, there, _ = tile(groups, blocks, parts, length, block, scale_rows, G, P)
    x, sizes = magnitudes(rows, index, mask)
    code = _scale_codes(largest(sizes, G), EMAX, THRESHOLD)
    tl.store(scales + at, code.to(tl.uint8), there)
    code = along(code, G)
    inverse = _power(tl.maximum(-code + 254, 0))
    scaled = tl.where(code == _NAN_SCALE, 0.0, x) * inverse
    words = tl.load(draws + index, mask, other=0) if STOCHASTIC else sizes
    value = rounded(scaled, words, MANTISSA, LOWEST, LARGEST, SUBNORMALS, FIXED, STOCHASTIC)
    if CODES:
        found = codes_of(value, BITS, MANTISSA, LOWEST, SUBNORMALS, FIXED)
        tl.store(result + index, found.to(tl.uint8), mask)
    else:
        tl.store(result + index, scaled_back(value, _power(code), most), mask)


def _blocks(
    rows: Tensor, draws: Tensor | None, block: int, most: float, numbers: tuple[Any, ...],
    codes: bool,
) -> tuple[Tensor, Tensor] | None:  # fmt: skip
    """Values or codes, and scale codes; None where the kernel does not serve."""
    rule, grid = Rule(*numbers[:3]), Grid(*numbers[3:])
    result = torch.empty_like(rows, dtype=torch.uint8 if codes else torch.float32)
    scales = nothing(rows, block, 0).to(torch.uint8)
    if not rows.numel():
        return result, scales
    layout = layout_of(rows, block, 0)
    if layout.block > LONGEST or not fits(grid):
        return None
    with on(rows.device):
        _quantize[(layout.programs,)](
            rows, rows if draws is None else draws, result, scales, most, *layout.numbers,
            *layout.shape, rule.emax, _threshold(rule), *constants(grid), draws is not None, codes,
            **layout.options,
        )  # fmt: skip
    return result, scales


def mx_quantize(
    rows: Tensor, draws: Tensor | None, block: int, most: float, *numbers: Any
) -> tuple[Tensor, Tensor]:
    """`mx_round.quantize_reference` of float32 rows."""
    found = _blocks(rows, draws, block, most, numbers, False)
    return found or mx_round.quantize_reference(rows, draws, block, most, *numbers)


def mx_encode(
    rows: Tensor, draws: Tensor | None, block: int, *numbers: Any
) -> tuple[Tensor, Tensor]:
    """`mx_round.encode_reference` of float32 rows."""
    found = _blocks(rows, draws, block, 0.0, numbers, True)
    return found or mx_round.encode_reference(rows, draws, block, *numbers)


@jit
def _decode(
    codes: Value, scales: Value, out: Value, most: Value, groups: Value, blocks: Value,
    parts: Value, length: Value, block: Value, scale_rows: Value, G: tl.constexpr, P: tl.constexpr,
    BITS: tl.constexpr, MANTISSA: tl.constexpr, LOWEST: tl.constexpr, SUBNORMALS: tl.constexpr,
    FIXED: tl.constexpr, INFINITY: tl.constexpr, NAN: tl.constexpr,
) -> None:  # fmt: skip
    index, mask, at, there, _ = tile(groups, blocks, parts, length, block, scale_rows, G, P)
    code = tl.load(codes + index, mask, other=0).to(tl.int32)
    value = values_of(code, BITS, MANTISSA, LOWEST, SUBNORMALS, FIXED, INFINITY, NAN)
    scale = _power(along(tl.load(scales + at, there, other=0).to(tl.int32), G))
    tl.store(out + index, scaled_back(value, scale, most), mask)


def mx_decode(codes: Tensor, scales: Tensor, block: int, wide: bool, *numbers: Any) -> Tensor:
    """`mx_round.decode_reference`, not wide."""
    grid = Grid(*numbers)
    if not codes.numel() or grid.step < -126:
        return mx_round.decode_reference(codes, scales, block, wide, *numbers)
    layout = layout_of(codes, block, 0)
    out = torch.empty_like(codes, dtype=torch.float32)
    bits, mantissa, lowest, _, subnormals, fixed = constants(grid)
    special = [-1 if code is None else code for code in (grid.infinity, grid.nan)]
    with on(codes.device):
        _decode[(layout.programs,)](
            codes, scales, out, torch.finfo(torch.float32).max, *layout.numbers, *layout.shape,
            bits, mantissa, lowest, subnormals, fixed, *special, **layout.options,
        )  # fmt: skip
    return out


@jit
def _cast(
    rows: Value, scales: Value, draws: Value, out: Value, most: Value, groups: Value,
    blocks: Value, parts: Value, length: Value, block: Value, scale_rows: Value, G: tl.constexpr,
    P: tl.constexpr, MANTISSA: tl.constexpr, LOWEST: tl.constexpr, LARGEST: tl.constexpr,
    SUBNORMALS: tl.constexpr, FIXED: tl.constexpr, STOCHASTIC: tl.constexpr, BACK: tl.constexpr,
) -> None:  # fmt: skip
    index, mask, at, there, _ = tile(groups, blocks, parts, length, block, scale_rows, G, P)
    x, sizes = magnitudes(rows, index, mask)
    scale = along(tl.load(scales + at, there, other=1.0), G)
    divisor = tl.where(scale > 0, scale, 1.0)
    words = tl.load(draws + index, mask, other=0) if STOCHASTIC else sizes
    value = rounded(
        tl.div_rn(x, divisor), words, MANTISSA, LOWEST, LARGEST, SUBNORMALS, FIXED, STOCHASTIC
    )
    if BACK:
        value = scaled_back(value, scale, most)
    tl.store(out + index, value, mask)


def minifloat_cast(
    rows: Tensor, scale: Tensor, draws: Tensor | None, back: bool, most: float, *numbers: Any
) -> Tensor:
    """`mx_round.cast_reference` of float32 rows; bfloat16 and float16 are left to torch's casts."""
    grid = Grid(*numbers)
    if not rows.numel():
        return torch.empty_like(rows)
    if not fits(grid) or (draws is None and native_dtype(grid) is not None):
        return mx_round.cast_reference(rows, scale, draws, back, most, *numbers)
    count, length = rows.shape
    layout = Layout(count, length, length, count)
    out = torch.empty_like(rows)
    with on(rows.device):
        _cast[(layout.programs,)](
            rows, scale.contiguous(), rows if draws is None else draws, out, most, *layout.numbers,
            *layout.shape, *constants(grid)[1:], draws is not None, back, **layout.options,
        )  # fmt: skip
    return out
