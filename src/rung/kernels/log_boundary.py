"""On which side of S * 2^(J / 4096) does a float32 lie? Decided in integers, without a logarithm.

Every rung and every rounding boundary of a logarithmic format with base factor gamma <= 2048 is a
scale S times 2^(J / 4096) for some integer J. With S = M * 2^E and x = m * 2^F (M and m integers of
24 bits) the question is an integer comparison of m with M * 2^(j / 4096), j = J mod 4096, where the
constant is irrational unless j = 0: there are no ties.

The constants carry 76 fraction bits in two limbs of 38, so that a product with M fits 64 bits and
is wrong by less than 2^-37. Over all 2^35 pairs (M, j) no product but those of j = 0 comes as close
to an integer as that (tests/kernels/test_log_boundary.py, the slow one): every answer is exact.
"""

import functools
import math

import torch
from torch import Tensor

STEPS = 4096
"""Boundaries in an octave: half rungs of the finest base factor, 2048."""

LIMB = 38
"""Bits of a limb."""

_STEPS_LOG2 = 12
_GUARD = 200


@functools.cache
def boundary_limbs() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """High and low limbs of 2^(j / 4096), j = 0 ... 4095: floor(2^(76 + j / 4096)) in two parts."""
    root = 2 << _GUARD
    for _ in range(_STEPS_LOG2):
        root = math.isqrt(root << _GUARD)
    power, high, low = 1 << _GUARD, [], []
    for _ in range(STEPS):
        limbs = power >> (_GUARD - 2 * LIMB)
        high.append(limbs >> LIMB)
        low.append(limbs & ((1 << LIMB) - 1))
        power = (power * root) >> _GUARD
    return tuple(high), tuple(low)


@functools.cache
def rung_powers(count: int, base_factor: int) -> tuple[float, ...]:
    """2^((e - (count - 1)) / base_factor) for e = 0 ... count - 1, correctly rounded to float64."""
    high, low = boundary_limbs()
    powers = []
    for below in range(count - 1, -1, -1):
        octave, step = divmod(-below * (STEPS // base_factor), STEPS)
        limbs = (high[step] << LIMB) | low[step]
        powers.append(math.ldexp(limbs, octave - 2 * LIMB))
    return tuple(powers)


def _limb_tensors(device: torch.device) -> tuple[Tensor, Tensor]:
    return _cached_limb_tensors(device)


# As torch.compiler.assume_constant_result does, which imports all of torch's compiler: 2 s.
_limb_tensors._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _cached_limb_tensors(device: torch.device) -> tuple[Tensor, Tensor]:
    high, low = boundary_limbs()
    return torch.tensor(high, device=device), torch.tensor(low, device=device)


def split_float(x: Tensor) -> tuple[Tensor, Tensor]:
    """Integers (m, F) of non-negative float32 values with x = m * 2^F and 2^23 <= m < 2^24.

    Subnormal values too; 0 gives m = 0.
    """
    mantissa, exponent = torch.frexp(x.double())
    return (mantissa * 2.0**24).to(torch.int64), exponent.to(torch.int64) - 24


def at_least(x: Tensor, scale: Tensor, steps: Tensor) -> Tensor:
    """Whether x >= scale * 2^(steps / 4096), exactly.

    Args:
        x: Non-negative float32 values (in float32 or float64), any shape.
        scale: Positive float32 values, broadcastable to x.
        steps: int64, x's shape.

    Returns:
        bool tensor of x's shape.
    """
    m, f = split_float(x)
    large, e = split_float(scale)
    high, low = _limb_tensors(x.device)
    octave, step = steps >> _STEPS_LOG2, steps & (STEPS - 1)
    product = (large * high[step] + ((large * low[step]) >> LIMB)) >> LIMB
    # m is in [2^23, 2^24) and the product in [2^23, 2^25): only two shifts are undecided by size.
    shift = f - e - octave
    shifted = m << shift.clamp(0, 1)
    # The floor of an irrational product is under it; that of an exact one (step 0) is it.
    above = shifted > product - (step == 0).to(torch.int64)
    result: Tensor = ((shift > 1) | (above & (shift >= 0))) & (m > 0)
    return result
