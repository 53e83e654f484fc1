"""Dense storage of codes of fewer than eight bits."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Packed:
    """A tensor in an `MX` format as it is stored.

    Attributes:
        codes: uint8, (rows, bytes): per row its blocks one after the other, each starting on a
            byte. Rows run along `dim`; their order is that of the other dimensions.
        scale: E8M0 codes, uint8, the tensor's shape with `dim` replaced by the number of blocks.
        shape: Shape of the tensor.
        dim: Dimension of the blocks, 0 or more.
        dtype: dtype that decoding returns.
    """

    codes: Tensor
    scale: Tensor
    shape: torch.Size
    dim: int
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales together."""
        return self.codes.numel() + self.scale.numel()


def packed_length(count: int, bits: int) -> int:
    """Bytes that hold so many codes."""
    return -(-count * bits // 8)


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Codes next to each other, little-endian: code i of a row is bits i * B ... (i + 1) * B - 1.

    So two 4-bit codes fill a byte, the first one its low half, and four 6-bit codes three bytes.

    Args:
        codes: uint8 in [0, 2^bits), (rows, n).
        bits: B, 1 to 8.

    Returns:
        uint8 tensor of shape (rows, ceil(n * B / 8)); spare bits of the last byte are 0.

    Raises:
        ValueError: `bits` outside 1-8, codes that are not a matrix of so many bits.
        TypeError: Codes that are not uint8.
    """
    _require_bytes(codes, bits)
    if bits < 8 and codes.numel() and int(codes.max()) >> bits:
        raise ValueError(
            f"Codes must have {bits} bits, be under {1 << bits}; got {int(codes.max())}."
        )
    many, width = _chunk(bits)
    count = codes.shape[1]
    chunks = -(-count // many)
    whole = torch.nn.functional.pad(codes, (0, chunks * many - count)).to(torch.int64)
    places = torch.arange(many, device=codes.device) * bits
    words = (whole.reshape(len(codes), chunks, many) << places).sum(-1, keepdim=True)
    parts = (words >> (torch.arange(width, device=codes.device) * 8)) & 0xFF
    packed = parts.to(torch.uint8).reshape(codes.shape[0], chunks * width)
    return packed[:, : packed_length(count, bits)].contiguous()


def unpack_bits(packed: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of `pack_bits`.

    Args:
        packed: uint8, (rows, bytes).
        bits: B, 1 to 8.
        count: Codes in a row.

    Returns:
        uint8 codes of shape (rows, count).

    Raises:
        ValueError: `bits` outside 1-8, a number of bytes that so many codes don't have.
        TypeError: Bytes that are not uint8.
    """
    _require_bytes(packed, bits)
    if packed.shape[1] != packed_length(count, bits):
        raise ValueError(
            f"{count} codes of {bits} bits take {packed_length(count, bits)} bytes; got "
            f"{packed.shape[1]}. Give the number of codes that were packed."
        )
    many, width = _chunk(bits)
    chunks = -(-count // many)
    whole = torch.nn.functional.pad(packed, (0, chunks * width - packed.shape[1])).to(torch.int64)
    bytes_at = torch.arange(width, device=packed.device) * 8
    words = (whole.reshape(len(packed), chunks, width) << bytes_at).sum(-1, keepdim=True)
    codes = (words >> (torch.arange(many, device=packed.device) * bits)) & ((1 << bits) - 1)
    return codes.to(torch.uint8).reshape(packed.shape[0], chunks * many)[:, :count].contiguous()


def _chunk(bits: int) -> tuple[int, int]:
    """The fewest codes that fill whole bytes, and those bytes; at most 56 bits."""
    common = math.gcd(bits, 8)
    return 8 // common, bits // common


def _require_bytes(tensor: Tensor, bits: int) -> None:
    if not 1 <= bits <= 8:
        raise ValueError(f"`bits` must be from 1 to 8; got bits={bits}.")
    if tensor.dtype != torch.uint8:
        raise TypeError(f"Codes and bytes must be uint8; got {tensor.dtype}.")
    if tensor.ndim != 2:
        raise ValueError(f"Codes and bytes must be a matrix; got shape {tuple(tensor.shape)}.")
