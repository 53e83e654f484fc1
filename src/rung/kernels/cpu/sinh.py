"""Sinh codes on the CPU: a cheap logarithm, one comparison and one look-up a number.

Equal to the reference in `rung.kernels.sinh` bit for bit; `sinh_loops` says how.
"""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung.kernels.cpu import decode_loops, sinh_loops
from rung.kernels.cpu.groups import decode_groups, round_groups, table
from rung.kernels.ladder import code_dtype
from rung.kernels.sinh import value_table
from rung.kernels.sinh_tables import boundaries, rungs, spacing

_NEVER = 0x7FFFFFFF
_HIGHEST = 254 << 23  # the largest power of two of float32


def round_rows(
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    draws: Tensor | None,
    bits: int,
    knee: float,
    block: int = 0,
    scale_rows: int = 0,
    codes: bool = False,
) -> tuple[Tensor, Tensor]:
    """`sinh.round_reference` of float32, from `sinh.FINEST` on."""
    dtype = code_dtype(bits) if codes else torch.float32
    plan, _ = _plan(bits, knee)
    loop = sinh_loops.round_groups
    return round_groups(loop, plan, rows, scale, source, draws, block, scale_rows, dtype, _HIGHEST)


def decode(codes: Tensor, scale: Tensor, bits: int, knee: float, block: int = 0) -> Tensor:
    """`sinh.decode_reference` of a float32 scale."""
    return decode_groups(decode_loops.take, (_values(bits, knee), 0), codes, scale, block)


@functools.cache
def _values(bits: int, knee: float) -> Any:
    """float32 value of every bit pattern of a code at scale 1."""
    return value_table(bits, knee, torch.empty(0, device="cpu"), torch.float32).numpy()


@functools.cache
def _plan(bits: int, knee: float) -> tuple[Any, ...]:
    """The numbers of a format in the order of `sinh_loops`; what they point to."""
    exact = np.array(boundaries(bits, knee), np.float64)
    nearest = [*exact.astype(np.float32).view(np.int32).tolist(), _NEVER]  # the last has no end
    tables = (table(nearest, np.int32), table(rungs(bits, knee), np.float32), exact)
    per_octave = np.array([np.log(2.0) / spacing(bits, knee)]).view(np.int64)[0]
    steepness = np.array([1 / knee]).view(np.int64)[0]
    addresses = (array.ctypes.data for array in tables)
    return np.array([bits, per_octave, steepness, *addresses], np.int64), tables
