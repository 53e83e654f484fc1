"""Quantized forms of torch's matrix products.

A factor is a weight if it is a parameter, lives in codes or is a view of either; else it is an
activation. A weight's channels are its dimensions that aren't summed over; blocks run along the
innermost one that is. An error's channels and blocks are those of the weight's outputs: columns of
the result, or rows where the weight is the left factor of matrices. An addend (`addmm`) has no
format; its gradient is the rounded error.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rung.formats.grouping import Axis
from rung.nn.product import Operand, is_weight, product
from rung.nn.quantizer import Quantizers


def factor(tensor: Tensor, summed: tuple[int, ...], block_dim: int) -> Operand:
    """An operand whose role its type tells.

    Args:
        tensor: The factor.
        summed: Dimensions that the product sums over, from the end (negative) or the start.
        block_dim: The one of them along which blocks run.
    """
    if not is_weight(tensor):
        return Operand(tensor, -1, False, block_dim)
    if not tensor.ndim:  # torch says what is wrong with it
        return Operand(tensor, None, True)
    away = {dim % tensor.ndim for dim in summed}
    kept: Axis = tuple(dim for dim in range(tensor.ndim) if dim not in away)
    return Operand(tensor, kept or None, True, block_dim)


def _pair(left: Tensor, right: Tensor) -> tuple[Operand, Operand]:
    dim = -1 if right.ndim == 1 else -2
    return factor(left, (-1,), -1), factor(right, (dim,), dim)


def _product(
    compute: Callable[..., Tensor], a: Tensor, b: Tensor, quantizers: Quantizers
) -> Tensor:
    """A product of matrices; its error's channels are those of the weight, on whichever side."""
    left, right = operands = _pair(a, b)
    rows = left.weight and not right.weight and a.ndim > 1 and b.ndim > 1
    return product(compute, operands, quantizers, -2 if rows else -1)


def matmul(input: Tensor, other: Tensor, *, quantizers: Quantizers) -> Tensor:
    """``torch.matmul`` (and ``@``) with its quantizers.

    Args:
        input: Shape (..., n, k) or (k,).
        other: Shape (..., k, m) or (k,).
        quantizers: The four.
    """
    return _product(torch.matmul, input, other, quantizers)


def mm(input: Tensor, mat2: Tensor, *, quantizers: Quantizers) -> Tensor:
    """``torch.mm`` with its quantizers: (n, k) times (k, m)."""
    return _product(torch.mm, input, mat2, quantizers)


def bmm(input: Tensor, mat2: Tensor, *, quantizers: Quantizers) -> Tensor:
    """``torch.bmm`` with its quantizers: (b, n, k) times (b, k, m)."""
    return _product(torch.bmm, input, mat2, quantizers)


def mv(input: Tensor, vec: Tensor, *, quantizers: Quantizers) -> Tensor:
    """``torch.mv`` with its quantizers: (n, k) times (k,)."""
    return product(torch.mv, _pair(input, vec), quantizers)


def dot(input: Tensor, tensor: Tensor, *, quantizers: Quantizers) -> Tensor:
    """``torch.dot`` with its quantizers: (k,) times (k,)."""
    return product(torch.dot, _pair(input, tensor), quantizers)


def inner(input: Tensor, other: Tensor, *, quantizers: Quantizers) -> Tensor:
    """``torch.inner`` with its quantizers: both summed over their last dimension."""
    if not input.ndim or not other.ndim:
        return torch.inner(input, other)
    return product(torch.inner, (factor(input, (-1,), -1), factor(other, (-1,), -1)), quantizers)


def addmm(
    input: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    quantizers: Quantizers,
) -> Tensor:
    """``torch.addmm`` with its quantizers: beta * input + alpha * (mat1 @ mat2)."""
    return _product(
        lambda a, b: torch.addmm(input, a, b, beta=beta, alpha=alpha), mat1, mat2, quantizers
    )


def addbmm(
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    quantizers: Quantizers,
) -> Tensor:
    """``torch.addbmm`` with its quantizers: beta * input + alpha * sum of (batch1 @ batch2)."""
    return _product(
        lambda a, b: torch.addbmm(input, a, b, beta=beta, alpha=alpha), batch1, batch2, quantizers
    )


def baddbmm(
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    quantizers: Quantizers,
) -> Tensor:
    """``torch.baddbmm`` with its quantizers: beta * input + alpha * (batch1 @ batch2)."""
    return _product(
        lambda a, b: torch.baddbmm(input, a, b, beta=beta, alpha=alpha), batch1, batch2, quantizers
    )


def addmv(
    input: Tensor,
    mat: Tensor,
    vec: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    quantizers: Quantizers,
) -> Tensor:
    """``torch.addmv`` with its quantizers: beta * input + alpha * (mat @ vec)."""
    return product(
        lambda a, b: torch.addmv(input, a, b, beta=beta, alpha=alpha),
        _pair(mat, vec),
        quantizers,
    )


def tensordot(
    a: Tensor,
    b: Tensor,
    dims: int | tuple[list[int], list[int]] | list[list[int]] = 2,
    *,
    quantizers: Quantizers,
) -> Tensor:
    """``torch.tensordot`` with its quantizers.

    Args:
        a: Left factor.
        b: Right factor.
        dims: Number of dimensions to sum over (the last of `a`, the first of `b`), or both lists.
        quantizers: The four.
    """
    if isinstance(dims, int):
        left, right = tuple(range(-dims, 0)), tuple(range(dims))
    else:
        left, right = (tuple(side) for side in dims)
    # Both run along the same sum: the innermost of the left factor.
    pairs = zip((dim % max(1, a.ndim) for dim in left), right, strict=False)
    blocks = max(pairs, default=(-1, -1))
    return product(
        lambda x, y: torch.tensordot(x, y, (list(left), list(right))),
        (factor(a, left, blocks[0]), factor(b, right, blocks[1])),
        quantizers,
    )
