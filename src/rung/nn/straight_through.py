"""The one autograd function: a format for the forward pass, a format for the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from rung.formats import CounterSource
from rung.nn.quantizer import Quantizer
from rung.nn.scales import Channels
from rung.nn.trace import mark, mark_result
from rung.tensor import CodedTensor


def straight_through(
    x: Tensor,
    forward: Quantizer | None,
    backward: Quantizer | None,
    channel_axis: Channels = 0,
    block_dim: int = -1,
    *,
    source: CounterSource | None = None,
    product_grad: bool = False,
) -> Tensor:
    """Q_forward(x), whose gradient is Q_backward(gradient): rounding counts as the identity.

    A quantizer that is None does nothing, and nothing is copied for it. A `CodedTensor` comes out
    decoded; its gradient is dense.

    Args:
        x: Floating-point tensor.
        forward: For the value.
        backward: For the gradient.
        channel_axis: Of quantizers with a scale per channel.
        block_dim: Dimension along which blocks run, of formats and scales that have blocks.
        source: Random numbers of a stochastic `forward`; default: drawn anew.
        product_grad: Whether the gradient is the result of one product (Q_G), for an audit.

    Returns:
        Tensor of x's shape and dtype.
    """
    coded = isinstance(x, CodedTensor)
    if forward is None and not coded and (backward is None or not _recorded(x)):
        return x
    # Under torch.func's transforms autograd's function is what reaches the plain tensors.
    compiling = torch.compiler.is_compiling()
    transformed = not compiling and torch._C._functorch.peek_interpreter_stack() is not None
    if not _recorded(x) and not transformed:
        return _forward(x, forward, channel_axis, block_dim, source)
    arguments = (x, forward, backward, channel_axis, block_dim, source, product_grad)
    function = _Transformable if transformed or compiling else _StraightThrough
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


def remaker(
    x: Tensor,
    forward: Quantizer | None,
    channel_axis: Channels,
    block_dim: int,
    source: CounterSource | None,
) -> Callable[[], Tensor]:
    """A way to make the forward value again in the backward pass: the same values."""
    return lambda: _forward(x.detach(), forward, channel_axis, block_dim, source)


def _recorded(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


def _forward(
    x: Tensor,
    quantizer: Quantizer | None,
    axis: Channels,
    block_dim: int,
    source: CounterSource | None,
) -> Tensor:
    if quantizer is not None:
        rounded = quantizer.q(x, axis, source, block_dim)
        mark(rounded, quantizer, x)
        return rounded
    if isinstance(x, CodedTensor):
        decoded = x.decode()
        mark(decoded, x, x)
        return decoded
    # An alias that is no view: what follows may write into it (ReLU(inplace=True)).
    return x.detach()


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, *inputs: Any) -> Tensor:
        _remember(ctx, inputs)
        return _forward(inputs[0], inputs[1], *inputs[3:6])

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor | None) -> tuple[Any, ...]:
        return _gradient(ctx, grads[0]), None, None, None, None, None, None


class _Transformable(torch.autograd.Function):
    """The same for torch.func and compilers.

    Torch looks the signature of such a function up at each call, for as long as a weight's rounding
    takes.
    """

    @staticmethod
    def forward(
        x: Tensor,
        forward: Quantizer | None,
        backward: Quantizer | None,
        axis: Channels,
        block_dim: int,
        source: CounterSource | None,
        product_grad: bool,
    ) -> Tensor:
        return _forward(x, forward, axis, block_dim, source)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Tensor) -> None:
        _remember(ctx, inputs)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor | None) -> tuple[Any, ...]:
        return _gradient(ctx, grads[0]), None, None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, *settings: Any) -> tuple[Tensor, int]:
        """Every example is rounded as if it were alone."""
        examples = x.unbind(in_dims[0])
        rounded = [_Transformable.apply(one, *settings) for one in examples]  # type: ignore[no-untyped-call]
        return torch.stack(rounded), 0


def _remember(ctx: FunctionCtx, inputs: tuple[Any, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.settings = inputs[2], inputs[3], inputs[4], inputs[6]  # type: ignore[attr-defined]


def _gradient(ctx: FunctionCtx, grad: Tensor | None) -> Tensor | None:
    quantizer, axis, block_dim, product_grad = ctx.settings  # type: ignore[attr-defined]
    if grad is not None and quantizer is not None:
        if product_grad:
            mark_result(grad, quantizer)
        # Under create_graph the rounding is straight-through again.
        grad = straight_through(grad, quantizer, None, axis, block_dim)
    return grad
