"""From tensors to the loops of formats whose groups share a scale: addresses, threads, scales."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rung.kernels.cpu import group_loops
from rung.kernels.cpu.memory import empty
from rung.kernels.cpu.simd import LANES
from rung.kernels.cpu.threads import GRAIN, run, split
from rung.kernels.group_scales import GIVEN, POWER_OF_TWO, READY

_DRAW = np.int16(0)
_KINDS = {
    torch.float32: (np.int32(0), None),
    torch.uint8: (np.uint8(0), 1),
    torch.int16: (np.int16(0), 1),
}
# Results beyond this many elements are out of the cache before anyone reads them.
_STREAMED, _STREAMED_DECODED = 2**20, 2**22
_LARGE = 2**20
# Shorter groups keep the processor from writing whole lines past the caches.
_LONG = 1024


class _Layout(NamedTuple):
    """How a matrix is cut: rows of `length`, groups of `each` elements, scales of a `shape`.

    `shared`: rows share scales. `even`: groups are long and end at vectors' ends.
    """

    size: int
    length: int
    each: int
    shape: tuple[int, int]
    groups: int
    shared: bool
    even: bool


@functools.lru_cache(4096)
def _layout(count: int, length: int, block: int, scale_rows: int) -> _Layout:
    size = count * length
    if scale_rows == 1 and not block:
        return _Layout(size, size, size or 1, (1, 1), 1, False, True)
    scale_rows, each = scale_rows or count, min(block or length, length) or 1
    blocks = -(-length // each) if block else 1
    even = (length | each) % LANES == 0 and each >= _LONG
    shared = scale_rows < count
    return _Layout(size, length, each, (scale_rows, blocks), count * blocks, shared, even)


def round_groups(
    loop: Callable[..., Any],
    plan: Any,
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    draws: Tensor | None,
    block: int,
    scale_rows: int,
    dtype: torch.dtype,
    highest: int = 0,
) -> tuple[Tensor, Tensor]:
    """Call a loop for every group.

    Args:
        loop: One of `round_loops`.
        plan: The format's numbers, the loop's last argument.
        rows: (rows, length), float32, contiguous.
        scale: float32 scales, (scale_rows, blocks), or None.
        source: Where scales come from, see `group_scales`.
        draws: int16 of the rows' shape, or None for rounding to nearest.
        block: Elements of a row with a scale, 0 for all; the last block may be shorter.
        scale_rows: Rows of scales; where there are fewer than rows, they begin anew. 0: one each.
        dtype: Of the results: it says what is wanted.
        highest: Bits of the largest power of two, for `POWER_OF_TWO`.

    Returns:
        Results of the rows' shape; the scales, NaN for groups that hold NaN or infinity.
    """
    layout = _layout(*rows.shape, block, scale_rows)
    size, length, each, shape, groups, shared, even = layout
    # Not torch.empty: that looks its keywords up for as long as a small tensor's loop takes.
    out = empty(rows.shape, dtype) if size >= _LARGE else rows.new_empty(rows.shape, dtype=dtype)
    if not size:
        return out, rows.new_ones(shape) if scale is None else scale.reshape(shape).clone()
    parts = split(size, LANES) if size >= 2 * GRAIN else [(0, size)]
    if source != READY and (shared or groups < len(parts)):
        scale = common_scales(rows, scale, source, layout, highest)
        source = READY
    elif scale is None:
        scale = rows.new_empty(shape)
    else:
        # The loop writes NaN over scales that are given, and an operator returns no argument.
        scale = scale.contiguous().clone()
    out_at, draws_at, drawn = out.data_ptr(), 0, None
    if draws is not None:
        draws = draws.contiguous()
        draws_at, drawn = draws.data_ptr(), _DRAW
    streamed = int(size >= _STREAMED and even and dtype == torch.float32 and out_at % 64 == 0)
    numbers = (size, length, each, shape[0], source, streamed, highest)
    addresses = (rows.data_ptr(), scale.data_ptr(), out_at, draws_at)
    kind, coded = _KINDS[dtype]
    if len(parts) == 1:
        loop(addresses, (0, groups), (0, size), numbers, drawn, kind, coded, plan)
        return out, scale
    rest = (drawn, kind, coded, plan)
    if groups < len(parts):
        run(lambda begin, end: loop(addresses, (0, groups), (begin, end), numbers, *rest), parts)
    else:
        ranges = split(groups, 1, max(1, GRAIN // each))
        run(lambda first, end: loop(addresses, (first, end), (0, size), numbers, *rest), ranges)
    return out, scale


def common_scales(
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    layout: _Layout,
    highest: int,
) -> Tensor:
    """Scales of groups that several rows or threads share, made before the rounding."""
    if layout.groups == 1:
        parts = split(rows.numel(), LANES)
        most = torch.empty(len(parts), 1, dtype=torch.float32, device="cpu")
        starts = {begin: place for place, (begin, _) in enumerate(parts)}

        def part(begin: int, end: int) -> None:
            group_loops.largest(
                rows.data_ptr(), most.data_ptr() + 4 * starts[begin], rows.numel(), (begin, end)
            )

        run(part, parts)
        largest = most.amax(0, keepdim=True)
    else:
        most = largest_of_groups(rows, layout.each)
        largest = most.reshape(-1, *layout.shape).amax(0)
    finite = torch.isfinite(largest)
    if source == GIVEN:
        assert scale is not None
        largest = scale.reshape(largest.shape).clone()
    elif source == POWER_OF_TWO:
        group_loops.powers_of_two(largest.data_ptr(), largest.numel(), highest)
    return largest if bool(finite.all()) else torch.where(finite, largest, torch.nan).contiguous()


def largest_of_groups(rows: Tensor, each: int) -> Tensor:
    """Largest magnitude of blocks of `each` elements, (rows, blocks); NaN or infinite where x is.

    `each` is 1 or more and at most a row's length.
    """
    count, length = rows.shape
    blocks = -(-length // each)
    out = rows.new_empty(count, blocks)
    numbers = (rows.numel(), length, each)

    def work(first: int, end: int) -> None:
        group_loops.largest_of_groups(rows.data_ptr(), out.data_ptr(), first, end, numbers)

    if rows.numel() < 2 * GRAIN:
        work(0, count * blocks)
    else:
        run(work, split(count * blocks, 1, max(1, GRAIN // each)))
    return out


def decode_groups(
    loop: Callable[..., None], tables: tuple[Any, ...], codes: Tensor, scale: Tensor, block: int = 0
) -> Tensor:
    """float32 values of codes.

    Args:
        loop: As those of `decode_loops`.
        tables: The loop's last arguments.
        codes: Codes of any shape, uint8 or int16.
        scale: float32, broadcastable to the codes, or of shape (..., blocks).
        block: Length of blocks along the last dimension, or 0.
    """
    size = codes.numel()
    if size >= _LARGE:
        out = empty(codes.shape, torch.float32)
    else:
        out = codes.new_empty(codes.shape, dtype=torch.float32)
    if not size:
        return out
    flat = codes.contiguous()
    rows, length, scales = _scale_rows(codes.shape, scale, block)
    streamed = size >= _STREAMED_DECODED and out.data_ptr() % 64 == 0 and (scales.numel() == 1)
    numbers = (size, length, min(block or length, length), rows, int(streamed))
    addresses = (flat.data_ptr(), scales.data_ptr(), out.data_ptr())
    kind = _KINDS[codes.dtype][0]
    if size < 2 * GRAIN:
        loop(addresses, (0, size), numbers, kind, *tables)
    else:
        run(
            lambda first, end: loop(addresses, (first, end), numbers, kind, *tables),
            split(size, 16),
        )
    return out


def _scale_rows(shape: torch.Size, scale: Tensor, block: int) -> tuple[int, int, Tensor]:
    """Rows of scales after which they begin anew, length of a row, scales without gaps."""
    if scale.numel() == 1 and not block:
        return 1, shape.numel(), scale
    if block:
        return shape[:-1].numel(), shape[-1], scale.contiguous()
    full = scale.reshape((1,) * (len(shape) - scale.ndim) + tuple(scale.shape))
    kept = [dim for dim, size in enumerate(full.shape) if size != 1]
    first, last = kept[0], kept[-1]
    count = shape[first : last + 1].numel()
    inner = full.expand(*full.shape[:first], *shape[first : last + 1], *full.shape[last + 1 :])
    return count, shape[last + 1 :].numel(), inner.contiguous()


def table(values: Any, dtype: Any, least: int = 16) -> Any:
    """Numbers as an array of at least `least`, as vectors are loaded."""
    array = np.zeros(max(least, len(values)), dtype)
    array[: len(values)] = values
    return array
