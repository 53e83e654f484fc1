"""Convolutions as matrix products of windows, in which padding has no products."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

Pair = int | tuple[int, int]


def convolve(
    matmul: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    weight: Tensor,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """`datapath.conv2d` by a product of (windows, taps) and (taps, outputs)."""
    strides = _checked("stride", stride, 1)
    paddings, dilations = _checked("padding", padding, 0), _checked("dilation", dilation, 1)
    _check(x, weight, groups)
    windows, inside, size = _windows(x, weight, strides, paddings, dilations)
    per_group = weight.shape[0] // groups
    kernels = weight.reshape(groups, per_group, -1)
    result = torch.empty(
        (x.shape[0], weight.shape[0], size[0] * size[1]), dtype=torch.int64, device=x.device
    )
    # Windows at the border have fewer products: one matrix product for each way to overlap it.
    patterns, which = torch.unique(inside, dim=0, return_inverse=True)
    for index, pattern in enumerate(patterns):
        places = (which == index).nonzero()[:, 0]
        taps = pattern.repeat(weight.shape[1]).nonzero()[:, 0]
        for group in range(groups):
            own = windows[:, places, group][:, :, taps].flatten(0, 1)
            sums = matmul(own, kernels[group][:, taps].T)
            outputs = slice(group * per_group, (group + 1) * per_group)
            sums = sums.reshape(x.shape[0], len(places), per_group)
            result[:, outputs, places] = sums.transpose(1, 2)
    return result.reshape(*result.shape[:2], *size)


def _checked(name: str, given: Pair, least: int) -> tuple[int, ...]:
    pair: tuple[int, ...] = tuple(_pair(given))
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in pair)
    if len(pair) != 2 or not whole or min(pair) < least:
        raise ValueError(
            f"`{name}` must be an integer of {least} or more, or two of them for rows and columns; "
            f"got {name}={given!r}. Give numbers, not words such as 'same'."
        )
    return pair


def _check(x: Tensor, weight: Tensor, groups: int) -> None:
    if x.ndim != 4 or weight.ndim != 4 or x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            "`x_codes` and `w_codes` must have shapes (batch, in, height, width) and (out, in / "
            f"groups, kernel height, kernel width); got {tuple(x.shape)} and "
            f"{tuple(weight.shape)} with groups={groups}."
        )
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"`groups` must divide the output channels, {weight.shape[0]}; got groups={groups}."
        )


def _windows(
    x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[Tensor, Tensor, tuple[int, int]]:  # fmt: skip
    """Codes of every window, which taps of a channel lie inside of the image, and output's size.

    Returns:
        Codes (batch, positions, groups, channels x taps), a mask (positions, taps), (height,
        width); codes outside of the image are arbitrary.
    """
    rows, row_inside = _taps(x.shape[2], weight.shape[2], stride[0], padding[0], dilation[0])
    columns, column_inside = _taps(x.shape[3], weight.shape[3], stride[1], padding[1], dilation[1])
    rows, columns = rows.to(x.device), columns.to(x.device)
    # (batch, channel, out row, tap row, out column, tap column)
    every = x[:, :, rows[:, :, None, None], columns[None, None]]
    inside = row_inside[:, :, None, None] & column_inside[None, None]
    height, width = rows.shape[0], columns.shape[0]
    taps = rows.shape[1] * columns.shape[1]
    channels = weight.shape[1]
    codes = every.permute(0, 2, 4, 1, 3, 5).reshape(
        x.shape[0], height * width, x.shape[1] // channels, channels * taps
    )
    mask = inside.permute(0, 2, 1, 3).reshape(height * width, taps).to(x.device)
    return codes, mask, (height, width)


def _taps(
    length: int, size: int, stride: int, padding: int, dilation: int
) -> tuple[Tensor, Tensor]:
    """Index and validity of each tap (second dimension) of each window (first)."""
    count = (length + 2 * padding - dilation * (size - 1) - 1) // stride + 1
    if count < 1:
        raise ValueError(
            f"a kernel of {size} taps at dilation {dilation} must fit the padded input of "
            f"{length + 2 * padding}; got none."
        )
    index = torch.arange(count)[:, None] * stride + torch.arange(size) * dilation - padding
    inside = (index >= 0) & (index < length)
    return index.clamp(0, length - 1), inside
