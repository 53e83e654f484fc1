"""Interception: inside a converted module, torch's products become the quantized ones."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from rung.nn import functional as quantized
from rung.nn.attention import body_of
from rung.nn.einsum import summed_length
from rung.nn.product import PausableMode, active_mode, is_weight, parameters_of
from rung.nn.quantizer import Quantizers
from rung.nn.recomputation import Checkpoints

# What a product can be; a policy's rules choose by them.
KINDS = ("linear", "conv", "embedding", "attention", "recurrent", "matmul")


class _Form(NamedTuple):
    """A quantized function and its kind; None: linear if a factor is a weight, else matmul."""

    function: Callable[..., Any]
    kind: str | None


class ProductMode(PausableMode):
    """Computes every product that it knows with the quantizers of its table.

    A product that it doesn't know stays as it is; an audit shows it. So does a product of
    activations that sums nothing, as of positions and frequencies: rotary angles of some hundred
    radians bear no rounding.

    Args:
        table: Quantizers of each kind.
        checkpoints: Those that begin inside the block.
    """

    def __init__(self, table: Mapping[str, Quantizers], checkpoints: Checkpoints) -> None:
        super().__init__()
        self.table = table
        self.checkpoints = checkpoints

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.unflatten and torch.compiler.is_compiling():
            func = torch.unflatten  # what the method calls, by a super() that can't be traced
        if self.paused:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head_attention(args, kwargs)
        form = _FORMS.get(func)
        # Results written into a given tensor have no gradient, and so no error to round.
        if form is None or kwargs.get("out") is not None:
            return func(*args, **kwargs)
        self.checkpoints.follow()
        kwargs.pop("out", None)
        kind = form.kind
        if kind is None:
            given = tree_leaves((args, list(kwargs.values())))  # einsum takes a list too
            factors = [x for x in given if isinstance(x, Tensor)][-2:]
            kind = "linear" if any(map(is_weight, factors)) else "matmul"
            if kind == "matmul" and not kwargs and _sums_nothing(func, args, factors):
                return func(*args)
        return form.function(*args, quantizers=self.table[kind], **kwargs)

    def _multi_head_attention(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Torch's own code, whose plain products are those of attention."""
        outer = self.table
        self.table = {**outer, "matmul": outer["attention"]}
        try:
            with self:
                return _multi_head_attention_forward(*args, **kwargs)
        finally:
            self.table = outer


@contextmanager
def computing_with(
    table: Mapping[str, Quantizers], module: nn.Module | None = None
) -> Iterator[None]:
    """Compute the products of a block of code with these quantizers; the innermost block wins.

    Args:
        table: Quantizers of each kind of product.
        module: Whose forward pass the block is: what is in the place of a parameter is a weight.
    """
    checkpoints = Checkpoints(lambda: computing_with(table, module))
    with nullcontext() if module is None else parameters_of(module):
        mode = active_mode()
        if not isinstance(mode, ProductMode):
            with ProductMode(table, checkpoints):
                yield
            return
        # One mode serves all nested modules: a second one would be asked about every function too.
        outer = mode.table, mode.checkpoints
        mode.table, mode.checkpoints = table, checkpoints
        try:
            yield
        finally:
            mode.table, mode.checkpoints = outer


def _sums_nothing(func: Callable[..., Any], args: tuple[Any, ...], factors: list[Tensor]) -> bool:
    """Whether every number of a product of two activations is one product of two numbers."""
    if len(factors) != 2 or not all(factor.ndim for factor in factors):
        return False
    if func is torch.einsum:
        return isinstance(args[0], str) and summed_length(args[0], factors) == 1
    if func in _SUMS_OVER_MORE:
        return False
    left = factors[1] if func is Tensor.__rmatmul__ else factors[0]
    return left.shape[-1] == 1


# Their sum runs over the batch as well, or over any dimensions.
_SUMS_OVER_MORE = {torch.addbmm, Tensor.addbmm, torch.tensordot}


_multi_head_attention_forward = body_of(F.multi_head_attention_forward)


def _right_matmul(input: Tensor, other: Tensor, *, quantizers: Quantizers) -> Tensor:
    return quantized.matmul(other, input, quantizers=quantizers)


def _einsum(*args: Any, quantizers: Quantizers) -> Any:
    if len(args) == 2 and isinstance(args[1], list | tuple):
        args = (args[0], *args[1])
    if isinstance(args[0], str) and len(args) <= 3:
        return quantized.einsum(*args, quantizers=quantizers)
    return torch.einsum(*args)


def _aten_embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    *,
    quantizers: Quantizers,
) -> Tensor:
    padding = None if padding_idx < 0 else padding_idx
    return quantized.embedding(
        indices,
        weight,
        padding,
        scale_grad_by_freq=scale_grad_by_freq,
        sparse=sparse,
        quantizers=quantizers,
    )


_FORMS: dict[Callable[..., Any], _Form] = {
    F.linear: _Form(quantized.linear, "linear"),
    torch.bilinear: _Form(quantized.bilinear, "linear"),
    F.bilinear: _Form(quantized.bilinear, "linear"),
    F.embedding: _Form(quantized.embedding, "embedding"),
    torch.embedding: _Form(_aten_embedding, "embedding"),
    F.embedding_bag: _Form(quantized.embedding_bag, "embedding"),
    F.scaled_dot_product_attention: _Form(quantized.scaled_dot_product_attention, "attention"),
    torch.einsum: _Form(_einsum, None),
    torch.tensordot: _Form(quantized.tensordot, None),
    torch.linalg.matmul: _Form(quantized.matmul, None),
    Tensor.__matmul__: _Form(quantized.matmul, None),
    Tensor.__rmatmul__: _Form(_right_matmul, None),
}
for _dims in (1, 2, 3):
    for _name in (f"conv{_dims}d", f"conv_transpose{_dims}d"):
        _FORMS[getattr(torch, _name)] = _Form(getattr(quantized, _name), "conv")
        _FORMS[getattr(F, _name)] = _Form(getattr(quantized, _name), "conv")
for _name in ("matmul", "mm", "bmm", "mv", "dot", "inner", "addmm", "addbmm", "baddbmm", "addmv"):
    _FORMS[getattr(torch, _name)] = _Form(getattr(quantized, _name), None)
    _FORMS[getattr(Tensor, _name)] = _Form(getattr(quantized, _name), None)
