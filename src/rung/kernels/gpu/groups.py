"""Groups of a matrix that share a scale: which program has which, and their scales.

A program has a tile: some whole groups, or a part of a long one. Where a tile holds its groups
whole, largest magnitude, scale and rounding are one pass over memory; otherwise the magnitudes are
found in a pass before, by atomic maxima of bit patterns, which are in the order of magnitudes.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from rung.kernels.gpu.chunks import bits_of, float_of
from rung.kernels.gpu.jit import EXACT, Value, jit, power_of_two
from rung.kernels.group_scales import GIVEN, POWER_OF_TWO, READY, each_of, scales_shape

# Elements of a program, and the longest group that one holds whole.
TILE, LONGEST = 1024, 8192
# Where a program's scales come from: its own groups, a pass before, or the caller.
OWN, FOUND, AS_GIVEN = range(3)

_OWN, _AS_GIVEN = tl.constexpr(OWN), tl.constexpr(AS_GIVEN)
_GIVEN, _POWER_OF_TWO = tl.constexpr(GIVEN), tl.constexpr(POWER_OF_TWO)
_INFINITE, _NAN = tl.constexpr(0x7F800000), tl.constexpr(0x7FC00000)
_FRACTION, _MAGNITUDE = tl.constexpr(0x7FFFFF), tl.constexpr(0x7FFFFFFF)
_HIGHEST = tl.constexpr(254 << 23)


@dataclass(frozen=True)
class Layout:
    """How the elements of contiguous rows share scales, and how programs share them.

    Attributes:
        rows: Number of rows.
        length: Elements of a row.
        block: Elements with a scale; the last block of a row may be shorter.
        scale_rows: Rows of scales; where there are fewer than rows, they begin anew.
    """

    rows: int
    length: int
    block: int
    scale_rows: int

    @property
    def numbers(self) -> tuple[int, int, int, int, int, int]:
        """What `tile` takes: groups, blocks of a row, parts of a block, length, block, rows."""
        blocks = -(-self.length // self.block)
        parts = -(-self.block // self.shape[1])
        return self.rows * blocks, blocks, parts, self.length, self.block, self.scale_rows

    @property
    def shape(self) -> tuple[int, int]:
        """Groups and elements of a tile, powers of two."""
        across = power_of_two(self.block)
        across = across if across <= LONGEST else TILE
        return max(1, TILE // across), across

    @property
    def programs(self) -> int:
        """Number of tiles."""
        groups, _, parts, *_ = self.numbers
        return -(-groups // self.shape[0]) * parts

    @property
    def whole(self) -> bool:
        """Whether a program sees all elements of its scales."""
        return self.numbers[2] == 1 and self.scale_rows == self.rows

    @property
    def options(self) -> dict[str, Any]:
        """Launch options."""
        return {**EXACT, "num_warps": 4 if self.shape[0] * self.shape[1] <= 2 * TILE else 8}


def layout_of(rows: Tensor, block: int, scale_rows: int) -> Layout:
    """The layout of a matrix as operators give it."""
    count, length = rows.shape
    return Layout(count, length, each_of(length, block), scale_rows or count)


def layout_of_scale(codes: Tensor, scale: Tensor, block: int) -> tuple[Layout, Tensor]:
    """The layout of codes whose scale broadcasts, or is one a block; and the scales it reads."""
    shape = codes.shape
    if block:
        rows, length = shape[:-1].numel(), shape[-1]
        return Layout(rows, length, each_of(length, block), rows), scale.contiguous()
    if scale.numel() == 1:
        return Layout(1, shape.numel(), shape.numel(), 1), scale
    full = scale.reshape((1,) * (len(shape) - scale.ndim) + tuple(scale.shape))
    kept = [dim for dim, size in enumerate(full.shape) if size != 1]
    first, last = kept[0], kept[-1]
    inner = full.expand(*full.shape[:first], *shape[first : last + 1], *full.shape[last + 1 :])
    length = shape[last + 1 :].numel()
    scale_rows = shape[first : last + 1].numel()
    return Layout(shape.numel() // length, length, length, scale_rows), inner.contiguous()


@jit
def tile(
    groups: Value, blocks: Value, parts: Value, length: Value, block: Value, scale_rows: Value,
    G: tl.constexpr, P: tl.constexpr,
) -> Value:  # fmt: skip
    """(index, mask) of a program's elements, (G, P); index of scales, mask, which write, (G,).

    With one group they are (P,) and scalars: a matrix's look-ups would be laid out in another order
    than its loads, and all results exchanged between threads.
    """
    part, i = tl.program_id(0) % parts, tl.arange(0, P)
    group = tl.program_id(0) // parts * G
    if G > 1:
        group += tl.arange(0, G)
    row, column = group // blocks, group % blocks
    start = row.to(tl.int64) * length + column * block + part * P
    left = tl.minimum(block, length - column * block) - part * P
    there = group < groups
    if G > 1:
        index, mask = start[:, None] + i[None, :], i[None, :] < left[:, None]
        mask = mask & there[:, None]
    else:
        index, mask = start + i, i < left
    writes = there & (row < scale_rows) & (part == 0)
    return index, mask, row % scale_rows * blocks + column, there, writes


@jit
def along(x: Value, G: tl.constexpr) -> Value:
    """Numbers of a tile's groups beside its elements."""
    return x[:, None] if G > 1 else tl.broadcast_to(x, [1])


@jit
def largest(sizes: Value, G: tl.constexpr) -> Value:
    """The largest of each of a tile's groups."""
    return tl.max(sizes, 1) if G > 1 else tl.max(sizes, 0)


@jit
def power_of_two_above(bits: Value) -> Value:
    """Bits of the smallest power of two that is at least a positive float32, up to 2^127."""
    normal = tl.minimum((bits + _FRACTION) & _INFINITE, _HIGHEST)
    # A subnormal number's bits are an integer; so are those of a power of two.
    small = tl.where(bits > _FRACTION, 1, bits).to(tl.float32)
    counted = (bits_of(small) + _FRACTION) & _INFINITE
    return tl.where(bits > _FRACTION, normal, float_of(counted).to(tl.int32))


@jit
def scales_of(
    sizes: Value, given: Value, found: Value, out: Value, at: Value, there: Value, writes: Value,
    SOURCE: tl.constexpr, FROM: tl.constexpr, G: tl.constexpr,
) -> Value:  # fmt: skip
    """float32 scales of a tile's groups, (G,), which are also written unless they are given.

    `sizes` are the magnitudes' bits, 0 where there is no element.
    """
    if FROM == _AS_GIVEN:
        scale = tl.load(given + at, there, other=1.0)
    else:
        most = largest(sizes, G) if FROM == _OWN else tl.load(found + at, there, other=0)
        if SOURCE == _GIVEN:
            bits = bits_of(tl.load(given + at, there, other=1.0))
        elif SOURCE == _POWER_OF_TWO:
            bits = tl.where(most > 0, power_of_two_above(most), 0)
        else:
            bits = most
        scale = float_of(tl.where(most < _INFINITE, bits, _NAN))
        tl.store(out + at, scale, writes)
    return scale


@jit
def magnitudes(rows: Value, index: Value, mask: Value) -> Value:
    """float32 values of a tile and the bits of their magnitudes."""
    x = tl.load(rows + index, mask, other=0.0)
    return x, bits_of(x) & _MAGNITUDE


@jit
def _largest(
    rows: Value, found: Value, groups: Value, blocks: Value, parts: Value, length: Value,
    block: Value, scale_rows: Value, G: tl.constexpr, P: tl.constexpr,
) -> None:  # fmt: skip
    index, mask, at, there, _ = tile(groups, blocks, parts, length, block, scale_rows, G, P)
    _, sizes = magnitudes(rows, index, mask)
    tl.atomic_max(found + at, largest(sizes, G), there)


def prepare(
    rows: Tensor, scale: Tensor | None, source: int, block: int, scale_rows: int
) -> tuple[Layout, tuple[Tensor, Tensor, Tensor], tuple[int, int]]:
    """What a rounding kernel takes of its groups.

    Args:
        rows: (rows, length), float32, contiguous, not empty.
        scale: As of `group_scales.of_groups`, like the next three.
        source: Where scales come from.
        block: Elements of a block.
        scale_rows: Rows of scales.

    Returns:
        The layout; the tensors `given`, `found` and `out` of `scales_of`, the last of which are the
        scales; its constants `SOURCE` and `FROM`.
    """
    layout = layout_of(rows, block, scale_rows)
    shape = scales_shape(rows, block, scale_rows)
    given = rows if scale is None else scale.contiguous()
    if source == READY:
        assert scale is not None
        return layout, (given, given, given.view(shape)), (source, AS_GIVEN)
    out = torch.empty(shape, dtype=torch.float32, device=rows.device)
    if layout.whole:
        return layout, (given, given, out), (source, OWN)
    found = torch.zeros(shape, dtype=torch.int32, device=rows.device)
    _largest[(layout.programs,)](rows, found, *layout.numbers, *layout.shape, **layout.options)
    return layout, (given, found, out), (source, FOUND)


def nothing(rows: Tensor, block: int, scale_rows: int) -> Tensor:
    """Scales of a matrix without elements."""
    return rows.new_zeros(scales_shape(rows, block, scale_rows), dtype=torch.float32)
