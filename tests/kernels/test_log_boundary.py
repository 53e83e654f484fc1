import math
from fractions import Fraction

import numba
import numpy as np
import pytest
import torch

from rung.kernels.log_boundary import LIMB, STEPS, at_least, boundary_limbs, rung_powers


def power_of_steps(value, steps):
    """(value)^4096 / 2^steps as an exact fraction: above 1 where value > 2^(steps / 4096)."""
    return Fraction(value) ** STEPS / Fraction(2) ** steps


@pytest.mark.parametrize("step", [0, 1, 2, 255, 1024, 2048, 4095])
def test_limbs_are_the_floor_of_the_power(step):
    high, low = boundary_limbs()
    limbs = (high[step] << LIMB) | low[step]
    unit = Fraction(1, 1 << (2 * LIMB))
    assert power_of_steps(limbs * unit, step) <= 1
    assert power_of_steps((limbs + 1) * unit, step) > 1


def neighbours(scale, steps):
    """float32 values around scale * 2^(steps / 4096), both sides."""
    middle = np.float32(scale * 2.0 ** (steps / STEPS))
    values = [middle]
    for direction in (np.float32(0), np.float32(np.inf)):
        value = middle
        for _ in range(3):
            value = np.nextafter(value, direction)
            values.append(value)
    return values


@pytest.mark.parametrize("scale", [1.0, 1.9999999, 0.1, 3.0e-39, 1e38, 7.0])
def test_the_comparison_equals_exact_arithmetic_next_to_boundaries(scale):
    scale = float(np.float32(scale))
    rng = np.random.default_rng(0)
    for steps in [0, -STEPS, 1, -1, *rng.integers(-3 * STEPS, STEPS // 4, 12).tolist()]:
        values = [v for v in neighbours(scale, steps) if 0 < v < np.inf]
        wanted = [
            (Fraction(float(v)) / Fraction(scale)) ** STEPS >= Fraction(2) ** steps for v in values
        ]
        got = at_least(
            torch.tensor(np.array(values)),
            torch.tensor(scale),
            torch.full((len(values),), steps, dtype=torch.int64),
        )
        assert got.tolist() == wanted


def test_rung_powers_are_correctly_rounded():
    powers = rung_powers(128, 8)
    assert powers[-1] == 1.0
    assert powers[-9] == 0.5
    for e in (0, 50, 126):
        exact = Fraction(2) ** (e - 127)
        below, above = math.nextafter(powers[e], 0), math.nextafter(powers[e], 1)
        low, high = (Fraction(powers[e]) + Fraction(n) for n in (below, above))
        assert (low / 2) ** 8 < exact < (high / 2) ** 8


@pytest.mark.slow
def test_no_product_is_as_close_to_an_integer_as_its_error():
    @numba.njit(nogil=True)
    def closest(high, low, limb):
        found, mask = 0, (1 << limb) - 1
        for step in range(1, high.size):
            h, s = high[step], low[step]
            for m in range(1 << 23, 1 << 24):
                # The product is floored twice: up to 1 + 2^-14 units too small.
                found += ((m * h + ((m * s) >> limb)) & mask) >= mask - 1
        return found

    high, low = (np.array(limbs, dtype=np.int64) for limbs in boundary_limbs())
    assert closest(high, low, LIMB) == 0
