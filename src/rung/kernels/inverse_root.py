"""One over a square root, in multiplications and subtractions that give the same bits everywhere.

Processors' own square roots and divisions are exact but slow, their fast approximations differ from
one to the next. Here the float's bit pattern, halved and subtracted from a constant, is a first
guess (3 %); two steps of Newton's method, with constants that spread the error evenly, leave
`ERROR`. Each operation is one of float32's, rounded on its own: no fused multiplication.

Source: Moroz, Walczyk, Hrynchyshyn, Holimath, Cieslinski, "Fast calculation of inverse square root
with the use of magic constant", 2018, arXiv:1603.04483; constants of the second step are ours.
"""

import torch
from torch import Tensor

MAGIC = 0x5F1FFFF9
FIRST, SECOND = 2.38924456, 6.053895
FACTOR = 0.17442136943757947  # of the result: what both steps leave out
ERROR = 2.0**-20  # relative, of FACTOR * unscaled(v) for normal v, rounding included


def unscaled(v: Tensor) -> Tensor:
    """1 / (`FACTOR` sqrt(v)) within `ERROR`.

    Args:
        v: float32, not negative, finite. Numbers under 2^-126, zero included, give 2.5e19 or less.

    Returns:
        float32 of v's shape, positive and finite.
    """
    y = (MAGIC - (v.view(torch.int32) >> 1)).view(torch.float32)
    y = y * (FIRST - (v * y) * y)
    return y * (SECOND - (v * y) * y)
