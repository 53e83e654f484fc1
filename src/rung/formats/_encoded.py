"""What `encode` returns: codes never look like values."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """A tensor in codes.

    Attributes:
        codes: Integer codes in the shape of the encoded tensor, uint8 or int16.
        signs: uint8, eight signs to a byte in flat order; a set bit is negative.
        scale: 0-d, or one entry per index of an axis, broadcastable to the codes.
        dtype: dtype that `decode` returns.
    """

    codes: Tensor
    signs: Tensor
    scale: Tensor
    dtype: torch.dtype
