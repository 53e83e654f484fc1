"""The loops of `cpu.groups`: largest magnitudes."""

from typing import Any

import numpy as np

from rung.kernels.cpu.arrays import array_at
from rung.kernels.cpu.jit import inner, jit
from rung.kernels.cpu.rung_lanes import INFINITE, largest_bits, power_of_two_above

_i32 = np.int32


@inner
def span_of(group: Any, length: Any, block: Any) -> Any:
    """First and end index of a group: blocks of `block` elements in rows of `length`."""
    blocks = (length + block - 1) // block
    row = group // blocks
    start = row * length + (group - row * blocks) * block
    return start, min(start + block, (row + 1) * length)


@jit
def largest(x_at: Any, out_at: Any, size: Any, places: Any) -> None:
    """Bits of the largest magnitude of elements places[0] ... places[1] - 1."""
    x = array_at(x_at, _i32(0), size)
    out = array_at(out_at, _i32(0), 1)
    out[0] = largest_bits(x, places[0], places[1])


@jit
def largest_of_groups(x_at: Any, out_at: Any, first: Any, end: Any, layout: Any) -> None:
    """Bits of the largest magnitude of groups; `layout` is size, length of a row, block."""
    size, length, block = layout
    x = array_at(x_at, _i32(0), size)
    out = array_at(out_at, _i32(0), end)
    for group in range(first, end):
        start, stop = span_of(group, length, block)
        out[group] = largest_bits(x, start, stop)


@jit
def powers_of_two(at: Any, size: Any, highest: Any) -> None:
    """Round scales up to powers of two, in place."""
    scales = array_at(at, _i32(0), size)
    for i in range(size):
        if 0 < scales[i] < INFINITE:
            scales[i] = power_of_two_above(scales[i], highest)
