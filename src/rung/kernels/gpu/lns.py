"""`lns_round` and `lns_decode` on a GPU: the reference's codes and values, bit for bit.

An approximate logarithm names the only boundary in question, x >= S 2^octave c with an irrational
c of 76 bits. It is decided in float64 without a rounding error: c is split into 29 bits, whose
product with the scale's significand is exact, and 47 more.
"""

from functools import cache

import torch
import triton.language as tl
from torch import Tensor

from rung.kernels.gpu.chunks import signed
from rung.kernels.gpu.groups import (
    along,
    layout_of_scale,
    magnitudes,
    nothing,
    prepare,
    scales_of,
    tile,
)
from rung.kernels.gpu.jit import Value, jit, on
from rung.kernels.gpu.splits import split, uniform
from rung.kernels.lns import Grid, code_dtype, power_table
from rung.kernels.log_boundary import LIMB, STEPS, boundary_limbs

_HIGH_BITS = 28  # fraction bits of the first part


@cache
def _boundaries(base_factor: int, device: torch.device) -> Tensor:
    """2^((2 i + 1) / (2 base_factor)) in two parts, float64 (2, base_factor)."""
    high, low = boundary_limbs()
    places = [(2 * i + 1) * (STEPS // 2 // base_factor) for i in range(base_factor)]
    whole = [(high[place] << LIMB) | low[place] for place in places]
    drop = 2 * LIMB - _HIGH_BITS
    parts = [
        [(number >> drop) * 2.0**-_HIGH_BITS for number in whole],
        [(number & ((1 << drop) - 1)) * 2.0 ** (-2 * LIMB) for number in whole],
    ]
    return torch.tensor(parts, dtype=torch.float64, device="cpu").to(device)


@jit
def _nearest(
    x: Value, scale: Value, ends: Value, GAMMA: tl.constexpr, SHIFT: tl.constexpr
) -> Value:
    """Rungs of positive x above positive scales, int32; `ends` of `_boundaries`."""
    m, exponent, rough = split(x)
    large, top, base = split(scale)
    apart = exponent - top
    k = apart * GAMMA + tl.floor((rough - base) * GAMMA).to(tl.int32)
    step, shift = k & (GAMMA - 1), apart - (k >> SHIFT)
    # The logarithm is right to a half rung: the quotient is in the octave or next to its end.
    wide = tl.where(shift > 0, 2 * m, m).to(tl.float64)
    high, low = tl.load(ends + step), tl.load(ends + GAMMA + step)
    above = (wide - large.to(tl.float64) * high) > large.to(tl.float64) * low
    return k + (above & (shift >= 0)).to(tl.int32)


@jit
def _stochastic(
    x: Value, scale: Value, e: Value, chance: Value, powers: Value, LOW: tl.constexpr,
    LAST: tl.constexpr,
) -> Value:  # fmt: skip
    """`lns._stochastic`: one of the two decoded neighbours of the nearest rung's."""
    e = tl.minimum(tl.maximum(e, LOW), LAST)
    near = tl.load(powers + e) * scale
    other = tl.minimum(tl.maximum(tl.where(x < near, e - 1, e + 1), LOW), LAST)
    far = tl.load(powers + other) * scale
    under, over = tl.minimum(near, far), tl.maximum(near, far)
    up = chance * (over - under) < x - under
    return tl.where(up, tl.maximum(e, other), tl.minimum(e, other))


@jit
def _round(
    rows: Value, draws: Value, result: Value, given: Value, found: Value, out: Value, ends: Value,
    powers: Value, groups: Value, blocks: Value, parts: Value, length: Value, block: Value,
    scale_rows: Value, G: tl.constexpr, P: tl.constexpr, SOURCE: tl.constexpr, FROM: tl.constexpr,
    BITS: tl.constexpr, GAMMA: tl.constexpr, SHIFT: tl.constexpr, LOW: tl.constexpr,
    STOCHASTIC: tl.constexpr, CODES: tl.constexpr,
) -> None:  # fmt: skip
    index, mask, at, there, writes = tile(groups, blocks, parts, length, block, scale_rows, G, P)
    x, sizes = magnitudes(rows, index, mask)
    scale = scales_of(sizes, given, found, out, at, there, writes, SOURCE, FROM, G)
    scale = along(scale, G)
    live = (sizes > 0) & (scale > 0)
    size = tl.where(live, sizes.to(tl.float32, bitcast=True), 1.0)
    last: tl.constexpr = (1 << (BITS - 1)) - 1
    top = tl.where(scale > 0, scale, 1.0)
    e = _nearest(size, top, ends, GAMMA, SHIFT) + last
    if STOCHASTIC:
        chance = uniform(tl.load(draws + index, mask, other=0))
        e = _stochastic(size, top, e, chance, powers, LOW, last)
    else:
        e = tl.minimum(tl.maximum(e, LOW), last)
    e = tl.where(live, e, 0)
    negative = x.to(tl.int32, bitcast=True) < 0
    if CODES:
        code = e | tl.where(negative, last + 1, 0)
        tl.store(result + index, code.to(tl.uint8 if BITS <= 8 else tl.int16), mask)
    else:
        value = tl.load(powers + e) * scale
        tl.store(result + index, signed(value, negative), mask)


def lns_round(
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    draws: Tensor | None,
    bits: int,
    base_factor: int,
    zero: bool,
    flush: bool,
    block: int,
    scale_rows: int,
    codes: bool,
) -> tuple[Tensor, Tensor]:
    """`rung.kernels.lns_round.round_reference` of float32 rows."""
    grid, device = Grid(bits, base_factor, zero, flush), rows.device
    result = torch.empty(
        rows.shape, dtype=code_dtype(bits) if codes else torch.float32, device=device
    )
    if not rows.numel():
        return result, nothing(rows, block, scale_rows)
    with on(device):
        layout, tensors, kind = prepare(rows, scale, source, block, scale_rows)
        _round[(layout.programs,)](
            rows, rows if draws is None else draws, result, *tensors,
            _boundaries(base_factor, device), power_table(grid, rows, torch.float32),
            *layout.numbers, *layout.shape, *kind, bits, base_factor,
            base_factor.bit_length() - 1, 0 if flush else grid.first,
            draws is not None, codes, **layout.options,
        )  # fmt: skip
    return result, tensors[2]


@jit
def _decode(
    codes: Value, scales: Value, powers: Value, out: Value, groups: Value, blocks: Value,
    parts: Value, length: Value, block: Value, scale_rows: Value, G: tl.constexpr, P: tl.constexpr,
    BITS: tl.constexpr, DROP: tl.constexpr,
) -> None:  # fmt: skip
    index, mask, at, there, _ = tile(groups, blocks, parts, length, block, scale_rows, G, P)
    code = tl.load(codes + index, mask, other=0).to(tl.int32)
    wide: tl.constexpr = (1 << (BITS + DROP - 1)) - 1
    e = code & wide
    if DROP > 0:  # `lns.shift_codes`
        half: tl.constexpr = (1 << (DROP - 1)) - 1
        last: tl.constexpr = (1 << (BITS - 1)) - 1
        e = tl.minimum((e + half + ((e >> DROP) & 1)) >> DROP, last)
    value = tl.load(powers + e) * along(tl.load(scales + at, there, other=0.0), G)
    tl.store(out + index, signed(value, (code & (wide + 1)) != 0), mask)


def lns_decode(
    codes: Tensor, scale: Tensor, bits: int, base_factor: int, zero: bool, drop: int, block: int
) -> Tensor:
    """`rung.kernels.lns_round.decode_operator` of float32 scales."""
    grid, codes = Grid(bits, base_factor, zero, False), codes.contiguous()
    out = torch.empty(codes.shape, dtype=torch.float32, device=codes.device)
    if codes.numel():
        layout, scales = layout_of_scale(codes, scale, block)
        with on(codes.device):
            _decode[(layout.programs,)](
                codes, scales, power_table(grid, codes, torch.float32), out, *layout.numbers,
                *layout.shape, bits, drop, **layout.options,
            )  # fmt: skip
    return out
