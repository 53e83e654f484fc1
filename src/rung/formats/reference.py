"""Scalar oracles: one number at a time, to be held against the paper's formulas."""

import math

import numpy as np

from rung.formats.ladder import Ladder


def ladder_encode(x: float, fmt: Ladder, scale: float) -> tuple[int, int]:
    """Sign (+1 or -1) and code of the rung nearest to x in the log domain, ties to even.

    Args:
        x: A finite number.
        fmt: The ladder.
        scale: W_max > 0.

    Source: Bernstein et al. 2020, section 4.1.
    """
    sign = -1 if x < 0 else 1
    if x == 0:
        return sign, fmt.levels - 1
    position = -math.log(abs(x) / scale) / fmt.base_precision
    return sign, round(min(max(position, 0.0), fmt.levels - 1.0))


def ladder_decode(sign: int, code: int, fmt: Ladder, scale: float) -> float:
    """The value sign * scale * exp(-code * base_precision), float32 as the tensor version's."""
    rung = np.float32(math.exp(-code * fmt.base_precision))
    return float(np.float32(sign) * (rung * np.float32(scale)))
