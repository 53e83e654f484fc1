"""Blocks along one dimension of a tensor, as rows."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Blocks:
    """How a tensor is cut: blocks of `block` elements along `dim`, the last one may be shorter.

    Attributes:
        shape: Shape of the tensor.
        dim: The dimension, 0 or more.
        block: Elements of a block.
    """

    shape: torch.Size
    dim: int
    block: int

    @property
    def length(self) -> int:
        """Elements along the dimension."""
        return self.shape[self.dim]

    @property
    def count(self) -> int:
        """Blocks along the dimension."""
        return -(-self.length // self.block)

    @property
    def rows(self) -> int:
        """Rows of the matrix that `to_rows` makes."""
        return self.shape.numel() // self.length if self.length else 0

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The tensor's shape with the dimension replaced by the number of blocks."""
        return (*self.shape[: self.dim], self.count, *self.shape[self.dim + 1 :])

    def to_rows(self, x: Tensor) -> Tensor:
        """The tensor (or its scales) as a contiguous matrix, the dimension last."""
        width = x.shape[self.dim]
        rows = x.numel() // width if width else 0
        return x.movedim(self.dim, -1).reshape(rows, width).contiguous()

    def from_rows(self, rows: Tensor) -> Tensor:
        """The inverse of `to_rows`, for rows of any width and dtype."""
        rest = [size for dim, size in enumerate(self.shape) if dim != self.dim]
        return rows.reshape(*rest, rows.shape[1]).movedim(-1, self.dim)

    def to_blocks(self, rows: Tensor) -> Tensor:
        """Rows as (n, blocks, elements); short blocks are filled up with zeros."""
        each = min(self.block, max(1, self.length))  # no more than the row itself
        padded = functional.pad(rows, (0, self.count * each - self.length))
        return padded.reshape(rows.shape[0], self.count, each)

    def from_blocks(self, blocks: Tensor) -> Tensor:
        """The inverse of `to_blocks`."""
        width = blocks.shape[1] * blocks.shape[2]
        return blocks.reshape(blocks.shape[0], width)[:, : self.length]


def blocks_of(shape: torch.Size, dim: int, block: int) -> Blocks:
    """Blocks of a tensor's shape.

    Raises:
        ValueError: No such dimension (a 0-d tensor has none).
        TypeError: `dim` is not an integer.
    """
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"`dim` must be an integer; got {dim!r}.")
    if not -len(shape) <= dim < len(shape):
        way = (
            f"Give one from {-len(shape)} to {len(shape) - 1}."
            if len(shape)
            else "Give the tensor a dimension: x.reshape(1)."
        )
        raise ValueError(
            f"`dim` must be the dimension along which blocks run; got dim={dim} for shape "
            f"{tuple(shape)}. {way}"
        )
    return Blocks(shape, dim % len(shape), block)
