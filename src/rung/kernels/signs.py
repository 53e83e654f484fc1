"""Signs as bits: packed eight to a byte, or regenerated from a key.

Bit i of a tensor is bit i mod 8 of byte i // 8 (little-endian). A set bit is a negative sign.
Seeded signs are the bytes of a Philox stream in the same layout, so both stores share one decoder.
"""

import functools

import torch
from torch import Tensor

from rung.kernels.philox import PURPOSE_SIGN, random_bytes


@functools.cache
def _byte_to_signs(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Table of shape (256, 8): the eight signs (+1 or -1) that a byte holds."""
    bits = torch.arange(256, device=device)[:, None] >> torch.arange(8, device=device) & 1
    return (1 - 2 * bits).to(dtype)


def pack_signs(negative: Tensor) -> Tensor:
    """Pack booleans into bytes.

    Args:
        negative: bool tensor of any shape, True for a negative sign; read in flat order.

    Returns:
        uint8 tensor of shape (ceil(n / 8),); spare bits are 0.
    """
    flat = negative.reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8)).reshape(-1, 8)
    weights = 2 ** torch.arange(8, device=flat.device)
    return (padded * weights).sum(dim=1).to(torch.uint8)


def unpack_signs(packed: Tensor, start: int, count: int, dtype: torch.dtype) -> Tensor:
    """Signs start ... start + count - 1 as +1 or -1.

    Args:
        packed: uint8 tensor of shape (ceil(n / 8),).
        start: First flat index.
        count: Number of signs.
        dtype: Floating-point or integer dtype of the result.

    Returns:
        Tensor of shape (count,).
    """
    first = start // 8
    return _signs_of_bytes(packed[first : (start + count + 7) // 8], dtype)[start - 8 * first :][
        :count
    ]


def seeded_signs(key: Tensor, start: int, count: int, dtype: torch.dtype) -> Tensor:
    """Signs start ... start + count - 1 of the stream of `key` (0-d int64); shape (count,)."""
    first = start // 8
    packed = random_bytes(key, first, (start + count + 7) // 8 - first, 0, PURPOSE_SIGN)
    return _signs_of_bytes(packed, dtype)[start - 8 * first :][:count]


def _signs_of_bytes(packed: Tensor, dtype: torch.dtype) -> Tensor:
    if type(packed) is Tensor:
        table = _byte_to_signs(dtype, packed.device)
    else:  # A cached real tensor can't enter a traced graph: build the table inside it.
        table = _byte_to_signs.__wrapped__(dtype, packed.device)
    return table.index_select(0, packed.to(torch.int32)).reshape(-1)
