"""Torch's functions that compute through a datapath, and those that are left in floating point."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.utils import _single

from rung.hardware import _through_sums as codes
from rung.hardware._through_product import Element, Factor
from rung.hardware._through_sums import Pair
from rung.hardware.datapath import Sums


def linear(element: Element, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``."""
    if weight.ndim == 1:
        return linear(element, input, weight[None], bias).squeeze(-1)
    return element.product(
        f"linear {tuple(weight.shape)}",
        Factor(input),
        Factor(weight, 0, (-1,)),
        lambda x, w: codes.linear(x, w, element.datapath),
        F.linear,
        bias,
    )


def conv2d(
    element: Element,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.conv2d``."""
    how = codes.window((weight.shape[-2], weight.shape[-1]), stride, padding, dilation, groups)
    return element.product(
        f"conv2d {tuple(weight.shape)}",
        Factor(input),
        Factor(weight, 0, (-1, 1, 1)),
        lambda x, w: codes.conv2d(x, w, element.datapath, how),
        lambda x, w: torch.conv2d(x, w, None, stride, padding, dilation, groups),
        None if bias is None else bias[:, None, None],
    )


def conv1d(
    element: Element,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.conv1d``: a convolution of images of one row."""
    step, distance = (1, *_single(stride)), (1, *_single(dilation))
    around = padding if isinstance(padding, str) else (0, *_single(padding))
    how = codes.window((1, weight.shape[-1]), step, around, distance, groups)

    def integers(x: Tensor, w: Tensor) -> Sums:
        found = codes.conv2d(x.unsqueeze(-2), w.unsqueeze(-2), element.datapath, how)
        return Sums(*(part.squeeze(-2) for part in found))

    return element.product(
        f"conv1d {tuple(weight.shape)}",
        Factor(input),
        Factor(weight, 0, (-1, 1)),
        integers,
        lambda x, w: torch.conv1d(x, w, None, stride, padding, dilation, groups),
        None if bias is None else bias[:, None],
    )


def matmul(element: Element, input: Tensor, other: Tensor) -> Tensor:
    """``torch.matmul``, and ``@``; a right factor of two dimensions counts as a weight."""
    if input.ndim == 1:
        return matmul(element, input[None], other).squeeze(-2 if other.ndim > 1 else 0)
    if other.ndim == 1:
        return matmul(element, input, other[:, None]).squeeze(-1)
    return element.product(
        f"matmul {tuple(other.shape[-2:])}",
        Factor(input),
        Factor(other, 1, (-1,)) if other.ndim == 2 else Factor(other),
        lambda x, y: codes.matmul(x, y, element.datapath),
        torch.matmul,
    )


def right_matmul(element: Element, input: Tensor, other: Tensor) -> Tensor:
    """What ``other @ input`` calls where only `input` is a tensor of torch's."""
    return matmul(element, other, input)


FORMS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.linear: linear,
    torch.conv1d: conv1d,
    torch.conv2d: conv2d,
    Tensor.__matmul__: matmul,
    Tensor.__rmatmul__: right_matmul,
    torch.linalg.matmul: matmul,
}
for _name in ("matmul", "mm", "bmm"):
    FORMS[getattr(torch, _name)] = FORMS[getattr(Tensor, _name)] = matmul

# Products that no form here computes.
LEFT: dict[Callable[..., Any], str] = {
    F.scaled_dot_product_attention: "scaled_dot_product_attention",
    F.bilinear: "bilinear",
    torch.bilinear: "bilinear",
    torch.conv3d: "conv3d",
}
for _name in ("einsum", "tensordot", "lstm", "gru", "rnn_tanh", "rnn_relu", "conv_transpose1d"):
    LEFT[getattr(torch, _name)] = _name
for _name in ("conv_transpose2d", "conv_transpose3d", "cdist", "lstm_cell", "gru_cell"):
    LEFT[getattr(torch, _name)] = _name
for _name in ("rnn_tanh_cell", "rnn_relu_cell"):
    LEFT[getattr(torch, _name)] = _name
for _name in ("mv", "dot", "inner", "addmm", "addbmm", "baddbmm", "addmv"):
    LEFT[getattr(torch, _name)] = LEFT[getattr(Tensor, _name)] = _name
