"""Linear maps, convolutions and matrix products of codes, with the overflows of every output."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from rung.hardware import _windows
from rung.hardware.datapath import Datapath, Sums, code_bits, matmul_counted

Pair = int | tuple[int, ...]


class Window(NamedTuple):
    """How a convolution's kernel moves over an image.

    Attributes:
        stride: Rows and columns.
        padding: On each side.
        dilation: Distance of taps.
        groups: Blocks of channels.
        surplus: First rows and columns of the result that don't belong to it: more padding was
            asked for behind the image than before it, and both sides got as much.
    """

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    surplus: tuple[int, int] = (0, 0)


def window(
    size: tuple[int, int], stride: Pair, padding: Pair | str, dilation: Pair, groups: int
) -> Window:
    """Numbers of a two-dimensional convolution, from what torch's functions take.

    Raises:
        ValueError: An unknown word for the padding; ``"same"`` with strides.
    """
    strides, dilations = _pair(stride), _pair(dilation)
    if not isinstance(padding, str):
        return Window(strides, _pair(padding), dilations, groups)
    if padding not in ("same", "valid"):
        raise ValueError(
            f"`padding` must be 'same', 'valid', an integer or one for each dimension; got "
            f"{padding!r}."
        )
    if padding == "valid":
        return Window(strides, (0, 0), dilations, groups)
    if any(step != 1 for step in strides):
        raise ValueError(
            f"padding='same' needs strides of 1; got {tuple(strides)}. Give the padding as numbers."
        )
    total = [step * (taps - 1) for step, taps in zip(dilations, size, strict=True)]
    after = (total[0] - total[0] // 2, total[1] - total[1] // 2)
    surplus = (after[0] - total[0] // 2, after[1] - total[1] // 2)
    return Window(strides, after, dilations, groups, surplus)


def linear(x: Tensor, weight: Tensor, datapath: Datapath) -> Sums:
    """`datapath.linear` of codes of shapes (..., K) and (N, K)."""
    found = matmul_counted(x.reshape(-1, x.shape[-1]), weight.T, datapath)
    shape = (*x.shape[:-1], weight.shape[0])
    return Sums(found.values.reshape(shape), found.overflows.reshape(shape))


def conv2d(x: Tensor, weight: Tensor, datapath: Datapath, how: Window) -> Sums:
    """`datapath.conv2d` of codes, batch or not."""
    if x.ndim == 3:
        return Sums(*(part[0] for part in conv2d(x[None], weight, datapath, how)))
    code_bits(x, weight, datapath)
    parts: list[Sums] = []

    def values(a: Tensor, b: Tensor) -> Tensor:
        parts.append(matmul_counted(a, b, datapath))
        return parts[-1].values

    sums = _windows.convolve(values, x, weight, *how[:4])
    overflows = torch.zeros_like(sums)
    if any(bool(part.overflows.any()) for part in parts):
        # The same products in the same order, and each has its counts by now.
        rest = iter(parts)
        overflows = _windows.convolve(lambda a, b: next(rest).overflows, x, weight, *how[:4])
    rows, columns = how.surplus
    return Sums(sums[..., rows:, columns:], overflows[..., rows:, columns:])


def matmul(a: Tensor, b: Tensor, datapath: Datapath) -> Sums:
    """Products of matrices: shapes (..., M, K) and (K, N), or batches that go together."""
    if b.ndim == 2:
        return linear(a, b.T, datapath)
    batch: tuple[int, ...] = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # type: ignore[no-untyped-call]
    ours = a.expand(*batch, *a.shape[-2:]).reshape(-1, *a.shape[-2:])
    theirs = b.expand(*batch, *b.shape[-2:]).reshape(-1, *b.shape[-2:])
    found = [matmul_counted(x, y, datapath) for x, y in zip(ours, theirs, strict=True)]
    shape = (*batch, a.shape[-2], b.shape[-1])
    values, overflows = (torch.stack(part).reshape(shape) for part in zip(*found, strict=True))
    return Sums(values, overflows)
