"""Quantized forms of torch's linear maps."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rung.nn.product import Operand, product
from rung.nn.quantizer import Quantizers


def linear(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, *, quantizers: Quantizers
) -> Tensor:
    """``torch.nn.functional.linear`` with its four quantizers; the bias has no format.

    Args:
        input: Activation, shape (..., in).
        weight: Shape (out, in), channels are dimension 0; a parameter, codes, or computed.
        bias: Shape (out,) or None.
        quantizers: The four.
    """
    operands = (Operand(input, -1, False), Operand(weight, 0 if weight.ndim > 1 else None, True))
    return product(lambda x, w: F.linear(x, w, bias), operands, quantizers)


def bilinear(
    input1: Tensor,
    input2: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    quantizers: Quantizers,
) -> Tensor:
    """``torch.nn.functional.bilinear`` with its quantizers.

    Args:
        input1: Activation, shape (..., in1).
        input2: Activation, shape (..., in2).
        weight: Shape (out, in1, in2), channels are dimension 0.
        bias: Shape (out,) or None.
        quantizers: The four.
    """
    operands = (Operand(input1, -1, False), Operand(input2, -1, False), Operand(weight, 0, True))
    return product(lambda x, y, w: torch.bilinear(x, y, w, bias), operands, quantizers)
