"""Which elements of a tensor share a scale: the tensor, indices of dimensions, or blocks."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Axis = int | tuple[int, ...] | None


@dataclass(frozen=True)
class Groups:
    """A tensor's elements in groups, one row each.

    Attributes:
        shape: Shape of the tensor.
        kept: Dimensions (0 or more, ascending) whose every index has a scale of its own.
        block: Length of blocks along the last dimension, or None. The last block may be shorter.
    """

    shape: torch.Size
    kept: tuple[int, ...]
    block: int | None

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """Shape of the scales: 0-d for one; (..., blocks); else broadcastable to the tensor."""
        if self.block is not None:
            return (*self.shape[:-1], -(-self.shape[-1] // self.block))
        if not self.kept:
            return ()
        return tuple(size if dim in self.kept else 1 for dim, size in enumerate(self.shape))

    def to_rows(self, x: Tensor) -> Tensor:
        """Elements as a contiguous (groups, n) matrix; short blocks are filled up with zeros."""
        if self.block is not None:
            missing = -self.shape[-1] % self._length
            padded = functional.pad(x, (0, missing)) if missing else x
            return padded.reshape(-1, self._length).contiguous()
        groups = 1
        for dim in self.kept:
            groups *= self.shape[dim]
        # No -1: the size of a dimension can't be told from an empty tensor.
        length = x.numel() // groups if groups else 0
        return x.permute(self._order).reshape(groups, length).contiguous()

    def from_rows(self, rows: Tensor) -> Tensor:
        """The inverse of `to_rows`, for rows of any dtype."""
        if self.block is not None:
            width = -(-self.shape[-1] // self._length) * self._length
            return rows.reshape(*self.shape[:-1], width)[..., : self.shape[-1]]
        order = self._order
        moved = rows.reshape([self.shape[dim] for dim in order])
        return moved.permute([order.index(dim) for dim in range(len(order))])

    @property
    def _length(self) -> int:
        """Elements of a row of blocks: no row is filled up beyond the last dimension."""
        assert self.block is not None
        return min(self.block, max(1, self.shape[-1]))

    @property
    def _order(self) -> list[int]:
        rest = [dim for dim in range(len(self.shape)) if dim not in self.kept]
        return [*self.kept, *rest]


def groups_of(x: Tensor, axis: Axis = None, block: int | None = None) -> Groups:
    """Groups by axis or block.

    Raises:
        ValueError: x has no such axis, an axis is named twice, a block that is not positive, blocks
            of a 0-d tensor, or both axis and block.
        TypeError: An axis or a block that is not an integer.
    """
    if block is not None:
        _require_integer("block", block)
        if axis is not None:
            raise ValueError(
                f"Give `axis` or `block`, not both; got axis={axis} and block={block}. Blocks run "
                "along the last dimension and have a scale each."
            )
        if block < 1 or x.ndim == 0:
            raise ValueError(
                f"`block` must be 1 or more, for a tensor with a dimension; got block={block} for "
                f"shape {tuple(x.shape)}."
            )
        return Groups(x.shape, (), block)
    axes = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for one in axes:
        _require_integer("axis", one)
        if not -x.ndim <= one < x.ndim:
            raise ValueError(
                f"`axis` must be a dimension of the tensor, from {-x.ndim} to {x.ndim - 1}; "
                f"got axis={one} for shape {tuple(x.shape)}."
            )
    kept = sorted(one % x.ndim for one in axes)
    if len(set(kept)) < len(kept):
        raise ValueError(f"`axis` must name each dimension once; got axis={axis}.")
    return Groups(x.shape, tuple(kept), None)


def groups_of_scale(x: Tensor, scale: Tensor, block: int | None) -> Groups:
    """Groups that given scales stand for.

    Raises:
        ValueError: The scales don't fit the tensor.
    """
    if block is not None:
        groups = groups_of(x, None, block)
        if tuple(scale.shape) != groups.scale_shape:
            raise ValueError(
                f"`scale` of blocks of {block} must have shape {groups.scale_shape} for a tensor "
                f"of shape {tuple(x.shape)}; got {tuple(scale.shape)}."
            )
        return groups
    lead = x.ndim - scale.ndim
    kept = [lead + dim for dim, size in enumerate(scale.shape) if size != 1]
    return Groups(x.shape, tuple(kept), None)


def _require_integer(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an integer; got {value!r}.")
