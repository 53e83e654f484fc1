"""Scalar oracles: one number at a time, to be held against the paper's formulas."""

import math

import numpy as np

from rung.formats.ladder import Ladder
from rung.formats.lns import LNS
from rung.formats.pair import Pair
from rung.formats.sinh import Sinh


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


def lns_encode(x: float, fmt: LNS, scale: float) -> tuple[int, int]:
    """Sign (+1 or -1) and exponent code e of a number, by the published formula.

        e = clamp(round(gamma * log2(|x| / s)), 0, 2^(B-1) - 1)

    Args:
        x: A finite number.
        fmt: The number system.
        scale: Value of the largest code, > 0.

    Source: Zhao et al. 2021, arXiv:2106.13914, multi-base logarithmic number system.
    """
    sign = -1 if math.copysign(1.0, x) < 0 else 1
    if x == 0:
        return sign, 0
    last = fmt.levels - 1
    # s = scale * 2^(-last / gamma), with the power taken out of the logarithm.
    e = round(fmt.base_factor * (math.log2(abs(x)) - math.log2(scale))) + last
    smallest = int(fmt.zero and fmt.underflow == "saturate")
    return sign, min(max(e, smallest), last)


def lns_decode(sign: int, code: int, fmt: LNS, scale: float) -> float:
    """The value sign * scale * 2^((e - last) / gamma), float32 as the tensor version's."""
    if fmt.zero and code == 0:
        return 0.0
    power = np.float32(2.0 ** ((code - fmt.levels + 1) / fmt.base_factor))
    return float(np.float32(sign) * (power * np.float32(scale)))


def sinh_encode(x: float, fmt: Sinh, scale: float) -> int:
    """The rung k of a number, from -K to K, by the formula.

        k = clamp(round(asinh(x / (knee * scale)) / h), -K, K)

    Args:
        x: A finite number.
        fmt: The sinh ladder.
        scale: W_max > 0.

    Source: the mirror map of Ghai, Hazan, Singer 2020, arXiv:1902.01903, on uniform rungs.
    """
    top = fmt.levels // 2
    position = math.asinh(x / scale / fmt.knee) * top / math.asinh(1 / fmt.knee)
    return round(min(max(position, -float(top)), float(top)))


def sinh_decode(rung: int, fmt: Sinh, scale: float) -> float:
    """The value scale * knee * sinh(k h), float32 as the tensor version's."""
    share = fmt.knee * math.sinh(rung * math.asinh(1 / fmt.knee) / (fmt.levels // 2))
    return float(np.float32(share) * np.float32(scale))


def pair_encode(x: float, fmt: Pair, scale: float) -> tuple[int, int]:
    """The rungs (k+, k-) of a number: k+ that of the sinh ladder, k- = -k+.

    Args:
        x: A finite number.
        fmt: The pair of ladders.
        scale: W_max > 0.

    Source: ours, after the EG+- of Kivinen and Warmuth 1997, as the same rungs of two ladders.
    """
    k = sinh_encode(x, fmt.ladder, scale)
    return k, -k


def pair_decode(plus: int, minus: int, fmt: Pair, scale: float) -> float:
    """The value m+ - m- of m = scale * knee / 2 * exp(k h), float32 as the tensor version's."""
    h = math.asinh(1 / fmt.knee) / (fmt.ladder.levels // 2)
    share = fmt.knee / 2 * (math.exp(plus * h) - math.exp(minus * h))
    return float(np.float32(share) * np.float32(scale))
