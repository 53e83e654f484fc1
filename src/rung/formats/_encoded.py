"""What `encode` returns: codes never look like values."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """A tensor in codes.

    Attributes:
        codes: Integer codes in the shape of the encoded tensor, uint8 or int16.
        signs: uint8, eight signs to a byte in flat order, a set bit is negative; None where the
            codes hold the signs themselves (`LNS`).
        scale: 0-d, or one entry per index of an axis, broadcastable to the codes; of shape
            (..., blocks) where blocks along the last dimension have scales of their own. For `MX`
            the scales' codes, uint8, the codes' shape with `dim` replaced by the number of blocks.
        dtype: dtype that `decode` returns.
        block: Length of the blocks, or None.
        dim: Dimension along which the blocks of `MX` run, 0 or more; None for other formats.
    """

    codes: Tensor
    signs: Tensor | None
    scale: Tensor
    dtype: torch.dtype
    block: int | None = None
    dim: int | None = None
