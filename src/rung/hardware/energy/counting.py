"""Count a real forward and backward pass, on any device, the meta device too."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from rung.hardware.energy.counts import Counts
from rung.hardware.energy.tally import FusedAttention, Tally
from rung.nn.restore import Originals, unchanged
from rung.nn.watch import Watch


def count(
    model: nn.Module,
    batch: Any,
    loss: Callable[[Any], Tensor] | None = None,
    *,
    training: bool = True,
) -> Counts:
    """Multiply-accumulates and numbers moved in one forward and one backward pass.

    The passes are real: products are seen below autograd, operator by operator, as `rung.nn.audit`
    sees them, with the layer and the pass that they belong to. On the meta device nothing is
    allocated. The model stays as it was and in its own mode (training or evaluation).

    Every operand is read once and every result written once for each product. The scores of
    `scaled_dot_product_attention` don't leave the chip, as in fused kernels; their products count
    in full, under a mask too, and without what fused kernels compute twice. Element-wise operators
    are not counted.

    Args:
        model: Any module. One converted by `rung.nn.convert_` has the same products; count it
            before, since some of its operators can't be looked into.
        batch: A tensor, a tuple of positional inputs, or a dict of keyword inputs, on the model's
            device.
        loss: From the model's output to a scalar. Default: the sum of the mean squares of all
            differentiable tensors in the output.
        training: Whether there is a backward pass and an update.

    Returns:
        The counts.

    Raises:
        ValueError: An output without a tensor to differentiate, or a loss that isn't a scalar.
        TypeError: A batch that is none of the three.

    Example:
        >>> counts = count(nn.Linear(8, 4), torch.ones(2, 8))
        >>> counts.of("forward").macs, counts.of("weight gradient").macs
        (64, 64)
    """
    args, kwargs = _arguments(batch)
    parameters = list(model.parameters())
    data = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
    originals = Originals([*parameters, *data])
    watch = Watch(model, data, originals)
    tally = Tally(watch, parameters, data)
    with _restored(model, originals), sdpa_kernel(SDPBackend.MATH), _modes(watch, tally):
        with torch.set_grad_enabled(training):
            output = model(*args, **kwargs)
        if training:
            _backward(output, loss, parameters)
    trained = sum(p.numel() for p in parameters if p.requires_grad) if training else 0
    return Counts(
        works=tuple(tally.works),
        weights=trained,
        parameters=sum(p.numel() for p in parameters),
        uncounted=tuple(dict.fromkeys(tally.uncounted)),
    )


@contextlib.contextmanager
def _modes(watch: Watch, tally: Tally) -> Iterator[None]:
    # The tally sees an operator before and after the watch, and what the watch listed for it.
    with torch.compiler.set_stance("force_eager"), watch, tally, FusedAttention(tally):
        yield


def _restored(model: nn.Module, originals: Originals) -> contextlib.AbstractContextManager[None]:
    if any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()]):
        return contextlib.nullcontext()  # there are no values that a pass could change
    return unchanged(model, originals)


def _arguments(batch: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(batch, Tensor):
        return (batch,), {}
    if isinstance(batch, tuple | list):
        return tuple(batch), {}
    if isinstance(batch, Mapping):
        return (), batch
    raise TypeError(
        "`batch` is a tensor, a tuple of positional inputs or a dict of keyword inputs; got "
        f"{type(batch).__name__}. Wrap any other input as `(input,)`."
    )


def _backward(
    output: Any, loss: Callable[[Any], Tensor] | None, parameters: list[nn.Parameter]
) -> None:
    leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    found = [leaf for leaf in leaves if leaf.requires_grad]
    if loss is None and not found:
        raise ValueError(
            "The output must have a tensor that depends on a parameter; got "
            f"{type(output).__name__} with {len(leaves)} tensors, none of them differentiable. "
            "Unfreeze a parameter, pass `loss`, or count with training=False."
        )
    scalar = sum(x.square().mean() for x in found) if loss is None else loss(output)
    if not isinstance(scalar, Tensor) or scalar.numel() != 1 or not scalar.requires_grad:
        got = f"shape {tuple(scalar.shape)}" if isinstance(scalar, Tensor) else repr(scalar)
        raise ValueError(
            f"`loss` must return one differentiable number; got {got}. Take the mean of a tensor "
            "that depends on a parameter."
        )
    trained = [p for p in parameters if p.requires_grad]
    # Not `backward()`: gradients stay as they are, and optimizers hooked to them don't step.
    torch.autograd.grad(scalar.sum(), trained, allow_unused=True)
