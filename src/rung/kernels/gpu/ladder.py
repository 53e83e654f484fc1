"""`ladder_round` and `ladder_decode` on a GPU: the reference's codes and values, bit for bit.

An approximate logarithm names the only boundary in question; one comparison in float64 decides, as
in the reference.
"""

import math

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
from rung.kernels.ladder import boundary_table, code_dtype, rung_table


@jit
def _nearest(x: Value, scale: Value, ends: Value, per_octave: Value, LAST: tl.constexpr) -> Value:
    """Codes of positive x, int32; `per_octave` rungs lie in an octave."""
    _, exponent, rough = split(x)
    _, top, base = split(scale)
    position = ((top - exponent).to(tl.float32) + (base - rough)) * per_octave
    k = tl.floor(tl.minimum(tl.maximum(position, 0.0), LAST)).to(tl.int32)
    end = tl.load(ends + k) * scale.to(tl.float64)
    return k + (x.to(tl.float64) < end).to(tl.int32)


@jit
def _stochastic(
    x: Value, scale: Value, nearest: Value, chance: Value, rungs: Value, LAST: tl.constexpr
) -> Value:
    """`ladder.stochastic_codes`."""
    near = tl.load(rungs + nearest) * scale
    other = tl.where(x < near, nearest + 1, nearest - 1)
    other = tl.minimum(tl.maximum(other, 0), LAST)
    far = tl.load(rungs + other) * scale
    under, over = tl.minimum(near, far), tl.maximum(near, far)
    up = chance * (over - under) < x - under
    return tl.where(up, tl.minimum(nearest, other), tl.maximum(nearest, other))


@jit
def _round(
    rows: Value, draws: Value, result: Value, given: Value, found: Value, out: Value, ends: Value,
    rungs: Value, per_octave: Value, groups: Value, blocks: Value, parts: Value, length: Value,
    block: Value, scale_rows: Value, G: tl.constexpr, P: tl.constexpr, SOURCE: tl.constexpr,
    FROM: tl.constexpr, BITS: tl.constexpr, STOCHASTIC: tl.constexpr, CODES: tl.constexpr,
) -> None:  # fmt: skip
    index, mask, at, there, writes = tile(groups, blocks, parts, length, block, scale_rows, G, P)
    x, sizes = magnitudes(rows, index, mask)
    scale = scales_of(sizes, given, found, out, at, there, writes, SOURCE, FROM, G)
    scale = along(scale, G)
    live = (scale > 0) & (scale < float("inf"))
    top, last = tl.where(live, scale, 1.0), (1 << BITS) - 1
    # A zero is rounded like the smallest positive number.
    size = tl.maximum(sizes, 1).to(tl.float32, bitcast=True)
    size = tl.where(live & mask, size, 1.0)
    code = _nearest(size, top, ends, per_octave, last)
    if STOCHASTIC:
        chance = uniform(tl.load(draws + index, mask, other=0))
        size = tl.where(sizes > 0, size, 0.0)
        code = _stochastic(size, top, code, chance, rungs, last)
    if CODES:
        code = tl.where(live, code, 0).to(tl.uint8 if BITS <= 8 else tl.int16)
        tl.store(result + index, code, mask)
    else:
        value = tl.load(rungs + code) * top
        value = tl.where(live, signed(value, x < 0), float("nan"))
        tl.store(result + index, value, mask)


def ladder_round(
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    draws: Tensor | None,
    bits: int,
    base_precision: float,
    block: int,
    scale_rows: int,
    codes: bool,
) -> tuple[Tensor, Tensor]:
    """`rung.kernels.ladder_round.round_reference` of float32 rows, from `FINEST` on."""
    dtype = code_dtype(bits) if codes else torch.float32
    result = torch.empty(rows.shape, dtype=dtype, device=rows.device)
    if not rows.numel():
        return result, nothing(rows, block, scale_rows)
    with on(rows.device):
        layout, tensors, kind = prepare(rows, scale, source, block, scale_rows)
        _round[(layout.programs,)](
            rows, rows if draws is None else draws, result, *tensors,
            boundary_table(bits, base_precision, rows),
            rung_table(bits, base_precision, rows, torch.float32), math.log(2) / base_precision,
            *layout.numbers, *layout.shape, *kind, bits, draws is not None, codes,
            **layout.options,
        )  # fmt: skip
    return result, tensors[2]


@jit
def _decode(
    codes: Value, scales: Value, signs: Value, rungs: Value, out: Value, groups: Value,
    blocks: Value, parts: Value, length: Value, block: Value, scale_rows: Value, G: tl.constexpr,
    P: tl.constexpr, SIGNED: tl.constexpr,
) -> None:  # fmt: skip
    index, mask, at, there, _ = tile(groups, blocks, parts, length, block, scale_rows, G, P)
    code = tl.load(codes + index, mask, other=0).to(tl.int32) & 0xFFFF
    value = tl.load(rungs + code) * along(tl.load(scales + at, there, other=0.0), G)
    if SIGNED:
        packed = tl.load(signs + index // 8, mask, other=0).to(tl.int32)
        value = signed(value, ((packed >> (index % 8).to(tl.int32)) & 1) != 0)
    tl.store(out + index, value, mask)


def ladder_decode(
    codes: Tensor,
    scale: Tensor,
    signs: Tensor | None,
    bits: int,
    base_precision: float,
    block: int,
) -> Tensor:
    """`rung.kernels.ladder_round.decode_reference` of float32 scales."""
    codes = codes.contiguous()
    out = torch.empty(codes.shape, dtype=torch.float32, device=codes.device)
    if codes.numel():
        layout, scales = layout_of_scale(codes, scale, block)
        with on(codes.device):
            _decode[(layout.programs,)](
                codes, scales, codes if signs is None else signs,
                rung_table(bits, base_precision, codes, torch.float32), out, *layout.numbers,
                *layout.shape, signs is not None, **layout.options,
            )  # fmt: skip
    return out
