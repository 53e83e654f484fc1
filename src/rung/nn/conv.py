"""Quantized forms of torch's convolutions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rung.nn.product import Operand, product
from rung.nn.quantizer import Quantizers
from rung.nn.scales import Channels, GroupedChannels


def _convolution(function: Callable[..., Tensor], dims: int, output_axis: int) -> Any:
    transposed = output_axis == 1
    shape = "(in, out / groups, ...)" if transposed else "(out, in / groups, ...)"
    named = "dimension 1 of each group" if transposed else "dimension 0"

    def convolve(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        *args: Any,
        quantizers: Quantizers,
        **kwargs: Any,
    ) -> Tensor:
        # Counted from the end, a batch dimension may be there or not. It sums over input channels
        # (and over a few positions): blocks run along them, in the activation across groups.
        channels = -(dims + 1)
        outputs: Channels = output_axis
        if transposed:
            # After stride, padding and output_padding.
            groups = kwargs.get("groups", args[3] if len(args) > 3 else 1)
            outputs = GroupedChannels(groups) if groups > 1 else 1
        operands = (
            Operand(input, channels, False, channels),
            Operand(weight, outputs, True, 1 - output_axis),
        )
        return product(
            lambda x, w: function(x, w, bias, *args, **kwargs), operands, quantizers, channels
        )

    convolve.__name__ = convolve.__qualname__ = function.__name__
    convolve.__doc__ = f"""``torch.{function.__name__}`` with its four quantizers.

    Args:
        input: Activation; its channels are the first dimension after the batch.
        weight: Shape {shape}, channels are {named}.
        bias: Shape (out,) or None; has no format.
        *args: Stride, padding and so on, as torch's function takes them.
        quantizers: The four.
        **kwargs: The same, by name.
    """
    return convolve


conv1d = _convolution(torch.conv1d, 1, 0)
conv2d = _convolution(torch.conv2d, 2, 0)
conv3d = _convolution(torch.conv3d, 3, 0)
conv_transpose1d = _convolution(torch.conv_transpose1d, 1, 1)
conv_transpose2d = _convolution(torch.conv_transpose2d, 2, 1)
conv_transpose3d = _convolution(torch.conv_transpose3d, 3, 1)
