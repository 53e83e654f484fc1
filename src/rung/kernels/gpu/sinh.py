"""`sinh_round` and `sinh_decode` on a GPU: the reference's codes and values, bit for bit.

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
from rung.kernels.ladder import code_dtype
from rung.kernels.sinh import end_table, value_table
from rung.kernels.sinh_tables import spacing


@jit
def _nearest(
    size: Value, top: Value, ends: Value, steepness: Value, per_octave: Value, K: tl.constexpr
) -> Value:
    """`sinh.nearest_rungs`, int32, of positive scales."""
    share = size.to(tl.float64) / top.to(tl.float64)
    # Beyond 1 every share is at the top; a square of more might overflow.
    t = tl.minimum(share, 1.0).to(tl.float32) * steepness
    _, exponent, rough = split(t + tl.sqrt(t * t + 1.0))
    position = ((exponent - 127).to(tl.float32) + rough) * per_octave
    k = tl.floor(tl.minimum(tl.maximum(position, 0.0), K)).to(tl.int32)
    end = tl.load(ends + tl.minimum(k, K - 1))
    return k + ((k < K) & (share >= end)).to(tl.int32)


@jit
def _either(
    size: Value, scale: Value, nearest: Value, chance: Value, values: Value, K: tl.constexpr
) -> Value:
    """`sinh.either_rung`."""
    near = tl.load(values + K + nearest) * scale
    other = tl.where(size < near, nearest - 1, nearest + 1)
    other = tl.minimum(tl.maximum(other, 0), K)
    far = tl.load(values + K + other) * scale
    under, over = tl.minimum(near, far), tl.maximum(near, far)
    up = chance * (over - under) < size - under
    return tl.where(up, tl.maximum(nearest, other), tl.minimum(nearest, other))


@jit
def _round(
    rows: Value, draws: Value, result: Value, given: Value, found: Value, out: Value, ends: Value,
    values: Value, steepness: Value, per_octave: Value, groups: Value, blocks: Value, parts: Value,
    length: Value, block: Value, scale_rows: Value, G: tl.constexpr, P: tl.constexpr,
    SOURCE: tl.constexpr, FROM: tl.constexpr, BITS: tl.constexpr, STOCHASTIC: tl.constexpr,
    CODES: tl.constexpr,
) -> None:  # fmt: skip
    index, mask, at, there, writes = tile(groups, blocks, parts, length, block, scale_rows, G, P)
    x, sizes = magnitudes(rows, index, mask)
    scale = scales_of(sizes, given, found, out, at, there, writes, SOURCE, FROM, G)
    scale = along(scale, G)
    live, K = (scale > 0) & (scale < float("inf")), (1 << (BITS - 1)) - 1
    top = tl.where(live, scale, 1.0)
    size = tl.where(live & mask, sizes.to(tl.float32, bitcast=True), 0.0)
    rung = _nearest(size, top, ends, steepness, per_octave, K)
    if STOCHASTIC:
        chance = uniform(tl.load(draws + index, mask, other=0))
        rung = _either(size, top, rung, chance, values, K)
    code = K + tl.where(x < 0, -rung, rung)
    if CODES:
        tl.store(result + index, code.to(tl.uint8 if BITS <= 8 else tl.int16), mask)
    else:
        value = signed(tl.load(values + K + rung) * scale, (x < 0) & (rung > 0))
        value = tl.where(scale < float("inf"), value, float("nan"))
        tl.store(result + index, value, mask)


def sinh_round(
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    draws: Tensor | None,
    bits: int,
    knee: float,
    block: int,
    scale_rows: int,
    codes: bool,
) -> tuple[Tensor, Tensor]:
    """`rung.kernels.sinh.round_reference` of float32 rows, from `FINEST` on."""
    dtype = code_dtype(bits) if codes else torch.float32
    result = torch.empty(rows.shape, dtype=dtype, device=rows.device)
    if not rows.numel():
        return result, nothing(rows, block, scale_rows)
    with on(rows.device):
        layout, tensors, kind = prepare(rows, scale, source, block, scale_rows)
        _round[(layout.programs,)](
            rows, rows if draws is None else draws, result, *tensors, end_table(bits, knee, rows),
            value_table(bits, knee, rows, torch.float32), 1 / knee,
            math.log(2) / spacing(bits, knee), *layout.numbers, *layout.shape, *kind, bits,
            draws is not None, codes, **layout.options,
        )  # fmt: skip
    return result, tensors[2]


@jit
def _decode(
    codes: Value, scales: Value, values: Value, out: Value, groups: Value, blocks: Value,
    parts: Value, length: Value, block: Value, scale_rows: Value, G: tl.constexpr, P: tl.constexpr,
) -> None:  # fmt: skip
    index, mask, at, there, _ = tile(groups, blocks, parts, length, block, scale_rows, G, P)
    code = tl.load(codes + index, mask, other=0).to(tl.int32) & 0xFFFF
    value = tl.load(values + code) * along(tl.load(scales + at, there, other=0.0), G)
    tl.store(out + index, value, mask)


def sinh_decode(codes: Tensor, scale: Tensor, bits: int, knee: float, block: int) -> Tensor:
    """`rung.kernels.sinh.decode_reference` of float32 scales."""
    codes = codes.contiguous()
    out = torch.empty(codes.shape, dtype=torch.float32, device=codes.device)
    if codes.numel():
        layout, scales = layout_of_scale(codes, scale, block)
        with on(codes.device):
            _decode[(layout.programs,)](
                codes, scales, value_table(bits, knee, codes, torch.float32), out,
                *layout.numbers, *layout.shape, **layout.options,
            )  # fmt: skip
    return out
