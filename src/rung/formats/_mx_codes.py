"""Codes that an `MX` is given back: whether they are its own, and their dense storage."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rung.formats._encoded import Encoded
from rung.formats._mx_blocks import Blocks, blocks_of
from rung.formats.packing import Packed, pack_bits, packed_length, unpack_bits

if TYPE_CHECKING:
    from rung.formats.mx import MX


def own_blocks(fmt: "MX", encoded: Encoded) -> Blocks:
    """The blocks of what `encode` of a format returned.

    Raises:
        ValueError: Blocks of another size, no dimension, scale codes of another shape, codes that
            the format doesn't have.
        TypeError: Codes or scale codes that are not uint8.
    """
    shape, dim, block = encoded.codes.shape, encoded.dim, encoded.block
    if dim is None or not 0 <= dim < len(shape) or block != fmt.block_size:
        raise ValueError(
            f"Codes of {fmt.short} must have blocks of {fmt.block_size} along a dimension of "
            f"{tuple(shape)}; got block={block} and dim={dim}. Give what this format's `encode` "
            "returned."
        )
    blocks = blocks_of(shape, dim, fmt.block_size)
    require_codes(fmt, blocks, encoded.codes, encoded.scale)
    return blocks


def require_codes(fmt: "MX", blocks: Blocks, codes: Tensor, scale_codes: Tensor) -> None:
    """Refuse codes and scale codes that a format doesn't have.

    Raises:
        ValueError: Codes of too many bits; scale codes of another shape.
        TypeError: Codes or scale codes that are not uint8.
    """
    require_scale_codes(fmt, blocks, scale_codes)
    if codes.dtype != torch.uint8:
        raise TypeError(
            f"Codes of {fmt.short} must be uint8; got {codes.dtype}. Give what this format's "
            "`encode` returned."
        )
    # Neither a traced graph nor torch.func's transforms can branch on values.
    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        return
    if fmt.bits < 8 and codes.numel() and type(codes) is Tensor:
        largest = int(codes.max())
        if largest >> fmt.bits:
            raise ValueError(
                f"Codes of {fmt.short} have {fmt.bits} bits, are under {1 << fmt.bits}; got "
                f"{largest}. Decode codes with the format that encoded them."
            )


def require_scale_codes(fmt: "MX", blocks: Blocks, scale_codes: Tensor) -> None:
    """Refuse scales that are no E8M0 codes of the blocks.

    Raises:
        ValueError: Another shape.
        TypeError: Not uint8.
    """
    if scale_codes.dtype != torch.uint8:
        raise TypeError(
            f"Scale codes of {fmt.short} must be uint8, 127 + s for 2^s; got {scale_codes.dtype}."
        )
    if blocks.scale_shape != tuple(scale_codes.shape):
        raise ValueError(
            f"Scale codes of {fmt.short} along dim={blocks.dim} must have shape "
            f"{blocks.scale_shape} for codes of shape {tuple(blocks.shape)}; got "
            f"{tuple(scale_codes.shape)}."
        )


def pack(fmt: "MX", encoded: Encoded) -> Packed:
    """`MX.pack`."""
    blocks = own_blocks(fmt, encoded)
    rows, size = blocks.to_rows(encoded.codes), fmt.block_size
    whole = blocks.length // size
    count = len(rows) * whole
    full = rows[:, : whole * size].reshape(count, size)
    packed = [
        pack_bits(full, fmt.bits).reshape(len(rows), -1 if count else 0),
        pack_bits(rows[:, whole * size :], fmt.bits),
    ]
    shape = encoded.codes.shape
    return Packed(torch.cat(packed, 1), encoded.scale, shape, blocks.dim, encoded.dtype)


def unpack(fmt: "MX", packed: Packed) -> Encoded:
    """`MX.unpack`."""
    blocks, size = blocks_of(packed.shape, packed.dim, fmt.block_size), fmt.block_size
    require_scale_codes(fmt, blocks, packed.scale)
    whole, rest = divmod(blocks.length, size)
    each, rows = packed_length(size, fmt.bits), blocks.rows
    wanted = (rows, whole * each + packed_length(rest, fmt.bits))
    if packed.codes.dtype != torch.uint8:
        raise TypeError(f"Packed codes of {fmt.short} must be uint8; got {packed.codes.dtype}.")
    if tuple(packed.codes.shape) != wanted:
        raise ValueError(
            f"Packed codes of {fmt.short} along dim={blocks.dim} must have shape {wanted}, rows "
            f"and bytes, for a tensor of shape {tuple(packed.shape)}; got "
            f"{tuple(packed.codes.shape)}. Unpack them with the format that packed them."
        )
    full = packed.codes[:, : whole * each].reshape(rows * whole, each)
    codes = [
        unpack_bits(full, fmt.bits, size).reshape(rows, whole * size),
        unpack_bits(packed.codes[:, whole * each :], fmt.bits, rest),
    ]
    values = blocks.from_rows(torch.cat(codes, 1)).contiguous()
    return Encoded(values, None, packed.scale, packed.dtype, size, blocks.dim)
