"""Multiply-accumulates of torch's operators, from the shapes of their operands."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

Count = Callable[[Sequence[Any], Tensor], int]


def _by_rows(position: int) -> Count:
    """A product that sums over the last dimension of one argument."""
    return lambda args, result: int(result.numel() * args[position].shape[-1])


def _summed_batch(args: Sequence[Any], result: Tensor) -> int:
    return int(args[1].numel() * args[2].shape[-1])


def _convolution(args: Sequence[Any], result: Tensor) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    return _weight_uses(weight, x if transposed else result)


def _plain_convolution(args: Sequence[Any], result: Tensor) -> int:
    return _weight_uses(args[1], result)


def _convolution_backward(args: Sequence[Any], result: Tensor) -> int:
    # Each multiply-accumulate of the forward pass has one in either gradient, groups or not;
    # torch.utils.flop_counter has too many of them in the weight's where there are groups.
    grad, x, weight, transposed = args[0], args[1], args[2], args[7]
    return _weight_uses(weight, x if transposed else grad)


def _weight_uses(weight: Tensor, places: Tensor) -> int:
    """A filter, of the first dimension, is laid on every place of its channel."""
    return int(places.numel() * weight.numel() // weight.shape[0])


_COUNTS: dict[str, Count] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot", "linear"), _by_rows(0)),
    **dict.fromkeys(("_scaled_mm", "mkldnn_linear"), _by_rows(0)),
    **dict.fromkeys(("addmm", "baddbmm", "addmv", "_addmm_activation"), _by_rows(1)),
    "addbmm": _summed_batch,
    "addr": lambda args, result: int(result.numel()),
    **dict.fromkeys(("convolution", "_convolution", "convolution_overrideable"), _convolution),
    "mkldnn_convolution": _plain_convolution,
    "convolution_backward": _convolution_backward,
}


def multiply_accumulates(name: str, args: Sequence[Any], result: Tensor) -> int | None:
    """Multiply-accumulates of one product of an operator.

    Padding counts as numbers, masks leave nothing out.

    Args:
        name: The operator's name without namespace, as ``"addmm"``.
        args: All of its arguments, in the order of its schema.
        result: What the product made.

    Returns:
        Their number; None for an operator that isn't known here.
    """
    count = _COUNTS.get(name.removesuffix("_"))
    return None if count is None else count(args, result)
