"""The multi-base LNS of Zhao et al. 2021, arXiv:2106.13914, in float64 NumPy, as it is written.

x = sign * s * 2^(e / gamma), e = clamp(round(gamma * log2(|x| / s)), 0, 2^(B-1) - 1),
s = amax * 2^(-(2^(B-1) - 1) / gamma).
"""

import numpy as np


def encode(x, bits, gamma, amax):
    """Position before rounding, and e."""
    last = 2 ** (bits - 1) - 1
    with np.errstate(divide="ignore"):
        position = gamma * (np.log2(np.abs(x.astype(np.float64))) - np.log2(amax)) + last
    return position, np.clip(np.round(position), 0, last)


def decode(negative, e, bits, gamma, amax):
    last = 2 ** (bits - 1) - 1
    return np.where(negative, -1.0, 1.0) * amax * 2.0 ** ((e - last) / gamma)
