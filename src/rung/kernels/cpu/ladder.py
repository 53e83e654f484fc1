"""Ladder codes on the CPU: a cheap logarithm, one comparison and one look-up a number.

Equal to the reference in `rung.kernels.ladder` bit for bit; `ladder_loops` says how.
"""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung.kernels.cpu import decode_loops, ladder_loops
from rung.kernels.cpu.groups import decode_groups, round_groups, table
from rung.kernels.cpu.threads import run, split
from rung.kernels.ladder import code_dtype, rung_table
from rung.kernels.ladder_boundary import boundaries


def round_rows(
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    draws: Tensor | None,
    bits: int,
    base_precision: float,
    block: int = 0,
    scale_rows: int = 0,
    codes: bool = False,
) -> tuple[Tensor, Tensor]:
    """`ladder_round.round_reference` of float32, from `ladder_round.FINEST` on."""
    dtype = code_dtype(bits) if codes else torch.float32
    plan, _ = _plan(bits, base_precision)
    return round_groups(
        ladder_loops.round_groups, plan, rows, scale, source, draws, block, scale_rows, dtype
    )


def decode(
    codes: Tensor,
    scale: Tensor,
    signs: Tensor | None,
    bits: int,
    base_precision: float,
    block: int = 0,
) -> Tensor:
    """`ladder_round.decode_reference` of a float32 scale."""
    signs = None if signs is None else signs.contiguous()
    rungs = _plan(bits, base_precision)[1][1][: 1 << bits]
    at = 0 if signs is None else signs.data_ptr()
    return decode_groups(decode_loops.ladder, (rungs, at), codes, scale, block)


def pack_negative(x: Tensor) -> Tensor:
    """`signs.pack_signs` of x < 0, for contiguous float32."""
    size = x.numel()
    packed = torch.empty((size + 7) // 8, dtype=torch.uint8, device="cpu")

    def work(begin: int, end: int) -> None:
        ladder_loops.pack_negative(x.data_ptr(), packed.data_ptr(), size, begin, end)

    run(work, split(size, 16))
    return packed


@functools.cache
def _plan(bits: int, base_precision: float) -> tuple[Any, ...]:
    """The numbers of a format in the order of `ladder_loops`; what they point to."""
    ends = np.array(boundaries(bits, base_precision), np.float64)
    rungs = rung_table(bits, base_precision, torch.empty(0, device="cpu"), torch.float32).numpy()
    nearest = ends.astype(np.float32).view(np.int32).copy()
    nearest[-1] = -(1 << 30)  # the last code has no end
    tables = (table(nearest, np.int32), table(rungs, np.float32), ends)
    per_octave = np.array([np.log(2.0) / base_precision]).view(np.int64)[0]
    precision = np.array([base_precision]).view(np.int64)[0]
    addresses = (array.ctypes.data for array in tables)
    return np.array([bits, per_octave, precision, *addresses], np.int64), tables
