"""LNS codes on the CPU: no transcendental function, one or two passes over memory.

Equal to the reference in `rung.kernels.lns` bit for bit; `lns_loops` says how.
"""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung.kernels.cpu import decode_loops, lns_loops
from rung.kernels.cpu.groups import decode_groups, round_groups, table
from rung.kernels.lns import Grid, code_dtype, decode_reference, join, power_table, shift_codes
from rung.kernels.log_boundary import STEPS, boundary_limbs, rung_powers

_SMALL = 8  # rungs an octave, up to which tables stay in registers
_LANES, _NEVER = 16, 0x7FFFFFFF
_HIGHEST = 254 << 23  # the largest power of two of float32


def round_rows(
    rows: Tensor,
    scale: Tensor | None,
    source: int,
    draws: Tensor | None,
    bits: int,
    base_factor: int,
    zero: bool,
    flush: bool,
    block: int = 0,
    scale_rows: int = 0,
    codes: bool = False,
) -> tuple[Tensor, Tensor]:
    """`lns_round.round_reference` of float32."""
    plan, _ = _plan(bits, base_factor, zero, flush)
    loop = lns_loops.round_many if base_factor > _SMALL else lns_loops.round_few
    dtype = code_dtype(bits) if codes else torch.float32
    return round_groups(loop, plan, rows, scale, source, draws, block, scale_rows, dtype, _HIGHEST)


def decode(
    codes: Tensor,
    scale: Tensor,
    bits: int,
    base_factor: int,
    zero: bool,
    drop: int = 0,
    block: int = 0,
) -> Tensor:
    """`lns_round.decode_operator` of a float32 scale."""
    last = (1 << (bits - 1)) - 1
    if base_factor <= _LANES and last < 126 * base_factor:
        loop, tables = decode_loops.lns, _plan(bits, base_factor, zero, False)[0]
    else:
        loop, tables = decode_loops.take, _value_table(Grid(bits, base_factor, zero, False), drop)
    return decode_groups(loop, (tables, drop), codes, scale, block)


@functools.cache
def _value_table(grid: Grid, drop: int) -> Any:
    """float32 value of every bit pattern of a code at scale 1."""
    bits = grid.bits + drop
    # Device and dtype by name: the process may have other defaults.
    patterns = torch.arange(1 << bits, dtype=torch.int32, device="cpu")
    fine = join(patterns & ((1 << (bits - 1)) - 1), patterns >= 1 << (bits - 1), bits)
    codes = shift_codes(fine, bits, drop)
    one = torch.ones((), dtype=torch.float32, device="cpu")
    return decode_reference(codes, one, grid).numpy()


@functools.cache
def _plan(bits: int, base_factor: int, zero: bool, flush: bool) -> tuple[Any, ...]:
    """The numbers of a format in the order of `lns_loops`; what they point to."""
    grid = Grid(bits, base_factor, zero, flush)
    gamma, large = grid.base_factor, grid.base_factor > _SMALL
    lowest, shift = 0 if grid.flush else grid.first, gamma.bit_length() - 1
    bounds = [_significand(2 * j + 1, 2 * gamma) for j in range(gamma)] + [_NEVER]
    powers = power_table(grid, torch.empty(0, device="cpu"), torch.float32).numpy()
    tables = (
        *_bins([] if large else bounds[:-1]),
        table(bounds, np.int32),
        table(_mantissas(grid), np.int32),
        powers,
        *_limbs(),
    )
    numbers = (bits, shift, grid.last, lowest, grid.first, flush)
    addresses = (array.ctypes.data for array in tables)
    return np.array([*map(int, numbers), *addresses], np.int64), tables


def _significand(step: int, steps: int) -> int:
    """Fraction bits of the float32 next to 2^(step / steps)."""
    high, _ = boundary_limbs()
    return round(high[step * STEPS // steps] / 2**15) - (1 << 23)


def _mantissas(grid: Grid) -> list[int]:
    """Bits of 2^(j / gamma) in float32 less those of 1, for j = -1 ... gamma + 1."""
    gamma = grid.base_factor
    octave = np.array(rung_powers(gamma + 1, gamma), np.float32).view(np.int32).tolist()
    whole = [bits - (126 << 23) for bits in octave]  # of 2^-1 ... 2^0, less the bits of 2^-1
    return [whole[gamma - 1] - (1 << 23), *whole, whole[1 % gamma] + (1 << 23)]


def _bins(bounds: list[int]) -> tuple[Any, Any]:
    """Boundaries under each sixteenth of a significand's octave, and the one inside, if any."""
    counts = [sum(bound >> 19 < place for bound in bounds) for place in range(16)]
    inside = [[bound for bound in bounds if bound >> 19 == place] for place in range(16)]
    # Neither two boundaries in a bin nor one so near to its end that rounding might leave it.
    edge = (1 << 19) - 1
    assert all(len(some) < 2 for some in inside)
    assert all(8 < bound & edge < edge - 8 for bound in bounds)
    return table(counts, np.int32), table([(*some, _NEVER)[0] for some in inside], np.int32)


@functools.cache
def _limbs() -> tuple[Any, Any]:
    high, low = (np.array(limbs, dtype=np.int64) for limbs in boundary_limbs())
    return high, low
