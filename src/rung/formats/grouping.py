"""Which elements of a tensor share a scale: the tensor, indices of dimensions, or blocks."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Elements; shorter pieces are put together first.
_SHORT = 16

Axis = int | tuple[int, ...] | None


class Cut(NamedTuple):
    """A contiguous tensor as a matrix whose rows have scales; see `kernels.group_scales`.

    Attributes:
        rows: Rows of the matrix.
        length: Elements of a row.
        scale_rows: Row r has row r modulo that of the scales.
        scale_shape: Shape in which scales are stored.
        same: Whether the tensor has this shape itself.
    """

    rows: int
    length: int
    scale_rows: int
    scale_shape: tuple[int, ...]
    same: bool

    def matrix(self, x: Tensor) -> Tensor:
        """The tensor's elements as that matrix, float32 (float64 for float64), for kernels."""
        if x.requires_grad:
            x = x.detach()
        if x.dtype != torch.float32 and x.dtype != torch.float64:
            x = x.float()
        x = x.resolve_neg()  # a lazily negated view has not written its signs to memory
        return (x if self.same else x.reshape(self.rows, self.length)).contiguous()


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

    def cut(self) -> Cut | None:
        """The tensor as it lies in memory, cut into rows.

        None where a group is scattered over memory in pieces too short to be worth it, or empty.
        """
        shape, size = self.shape, self.shape.numel()
        if not size:
            return None
        if self.block is not None:
            rows = shape[:-1].numel()
            return Cut(rows, shape[-1], rows, self.scale_shape, len(shape) == 2)
        if not self.kept:
            if len(shape) == 2:
                return Cut(*shape, 1, (), True)
            return Cut(1, size, 1, (), False)
        first, last = self.kept[0], self.kept[-1]
        length, kept = shape[last + 1 :].numel(), shape[first : last + 1].numel()
        outer = shape[:first].numel()
        if last - first + 1 != len(self.kept) or (outer > 1 and length < _SHORT):
            return None
        return Cut(outer * kept, length, kept, self.scale_shape, shape == (outer * kept, length))

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
    """Groups of a tensor by axis or block; errors of `groups_of_shape`."""
    return groups_of_shape(x.shape, axis, block)


def groups_of_shape(shape: torch.Size, axis: Axis = None, block: int | None = None) -> Groups:
    """Groups by axis or block.

    Raises:
        ValueError: The tensor has no such axis, an axis is named twice, a block that is not
            positive, blocks of a 0-d tensor, or both axis and block.
        TypeError: An axis or a block that is not an integer.
    """
    if block is not None:
        _require_integer("block", block)
        if axis is not None:
            raise ValueError(
                f"Give `axis` or `block`, not both; got axis={axis} and block={block}. Blocks run "
                "along the last dimension and have a scale each."
            )
        if block < 1 or not shape:
            raise ValueError(
                f"`block` must be 1 or more, for a tensor with a dimension; got block={block} for "
                f"shape {tuple(shape)}."
            )
        return Groups(shape, (), block)
    axes = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for one in axes:
        _require_integer("axis", one)
        if not -len(shape) <= one < len(shape):
            raise ValueError(
                f"`axis` must be a dimension of the tensor, from {-len(shape)} to "
                f"{len(shape) - 1}; got axis={one} for shape {tuple(shape)}."
            )
    kept = sorted(one % len(shape) for one in axes)
    if len(set(kept)) < len(kept):
        raise ValueError(f"`axis` must name each dimension once; got axis={axis}.")
    return Groups(shape, tuple(kept), None)


def cut_of(shape: torch.Size, axis: Axis = None, block: int | None = None) -> Cut | None:
    """`Groups.cut` of `groups_of_shape`, remembered."""
    if torch.compiler.is_compiling():  # sizes may be symbols
        return groups_of_shape(shape, axis, block).cut()
    try:
        return _cut_of(shape, axis, block)
    except TypeError:  # what can't be remembered is no axis, says this
        return groups_of_shape(shape, axis, block).cut()


@functools.lru_cache(4096, typed=True)
def _cut_of(shape: torch.Size, axis: Axis, block: int | None) -> Cut | None:
    return groups_of_shape(shape, axis, block).cut()


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
