"""Quantized forms of torch's embeddings: rows of a weight, looked up."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from rung.formats import LNS, FixedPoint, Minifloat
from rung.nn.product import Operand, product, unintercepted
from rung.nn.quantizer import Quantizer, Quantizers
from rung.nn.straight_through import straight_through
from rung.nn.trace import mark, mark_lookup, mark_result
from rung.tensor import CodedTensor


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    *,
    quantizers: Quantizers,
) -> Tensor:
    """``torch.nn.functional.embedding`` with Q_W on the table, Q_E on the rows' gradient and Q_G.

    Channels of the table are its rows, as in an output projection that is tied to it. With a scale
    per channel, row or block only the rows that are looked up are rounded, in both directions.

    Args:
        input: Indices, any shape, int32 or int64, in 0..rows - 1.
        weight: The table, shape (rows, features).
        padding_idx: Row that gets no gradient.
        max_norm: Longest norm of a row; longer ones are shortened in place first, as in torch.
        norm_type: p of that norm.
        scale_grad_by_freq: Divide a row's gradient by the times it is looked up.
        sparse: Sparse gradient of the table; its rows are rounded as those of a dense one.
        quantizers: The four; there is no activation.

    Raises:
        ValueError: A sparse gradient together with Q_G.
        IndexError: An index outside of the table; on a GPU, torch's assertion there.
        RuntimeError: Indices of another type than int32 and int64.
    """
    rounds = isinstance(weight, CodedTensor) or quantizers.weight or quantizers.gradient
    by_row = _forward_by_row(quantizers.weight) and _backward_by_row(quantizers.gradient)
    if rounds and by_row and not sparse:
        _shorten(input, weight, max_norm, norm_type)
        if padding_idx is not None and padding_idx < 0:
            padding_idx += weight.shape[0]
        rows = _look_up(input, weight, quantizers, padding_idx, scale_grad_by_freq)
        return straight_through(rows, None, quantizers.error, -1)
    _require_dense(sparse, quantizers)
    _shorten(input, weight, max_norm, norm_type)
    return product(
        lambda table: F.embedding(
            input, table, padding_idx, None, norm_type, scale_grad_by_freq, sparse
        ),
        (Operand(weight, 0, True),),
        quantizers,
    )


def _require_dense(sparse: bool, quantizers: Quantizers) -> None:
    if sparse and quantizers.gradient is not None:
        raise ValueError(
            "A sparse gradient has no format here; got sparse=True and Q_G = "
            f"{quantizers.gradient}. Build the embedding with sparse=False or leave Q_G out."
        )


def _shorten(input: Tensor, weight: Tensor, max_norm: float | None, norm_type: float) -> None:
    """Shorten rows in the table itself, as torch does: not in what was rounded of it."""
    if max_norm is not None:
        with torch.no_grad(), unintercepted():
            F.embedding(input, weight, None, max_norm, norm_type)


def _forward_by_row(quantizer: Quantizer | None) -> bool:
    """Whether a row's rounding depends on that row alone: on no other row, nor on its place."""
    return quantizer is None or (quantizer.scale != "tensor" and quantizer.rounding == "nearest")


def _backward_by_row(quantizer: Quantizer | None) -> bool:
    """Whether rounding the rows that are not zero is rounding all."""
    if quantizer is None or quantizer.rounding != "nearest":
        return quantizer is None
    fmt = quantizer.format
    zeros_stay = isinstance(fmt, Minifloat | FixedPoint) or (isinstance(fmt, LNS) and fmt.zero)
    return quantizer.scale != "tensor" or zeros_stay


def _look_up(
    input: Tensor, weight: Tensor, quantizers: Quantizers, padding: int | None, by_count: bool
) -> Tensor:
    arguments = (weight, input, quantizers, -1 if padding is None else padding, by_count)
    with unintercepted():
        if weight.requires_grad and torch.is_grad_enabled():
            return _Rows.apply(*arguments)  # type: ignore[no-untyped-call, no-any-return]
        return _Rows.forward(*arguments)


class _Rows(torch.autograd.Function):
    """Rows of a table, rounded; the table's gradient, rounded where it isn't zero."""

    @staticmethod
    def forward(
        weight: Tensor, input: Tensor, quantizers: Quantizers, padding: int, by_count: bool
    ) -> Tensor:
        flat = input.reshape(-1)
        quantizer = quantizers.weight
        rows = _rows_of(weight.detach(), flat)
        if quantizer is not None:
            rows = quantizer.q(rows, 0)
            mark(rows, quantizer, weight)
        # An alias that is no view: what follows may write into it (ReLU(inplace=True)).
        result = _decoded(rows).reshape(*input.shape, weight.shape[1]).detach()
        mark_lookup(input, weight, result)
        return result

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Tensor) -> None:
        weight, input, quantizers, padding, by_count = inputs
        ctx.save_for_backward(input)
        ctx.settings = weight.shape[0], quantizers.gradient, padding, by_count  # type: ignore[attr-defined]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Any, ...]:
        (input,) = ctx.saved_tensors  # type: ignore[attr-defined]
        count, quantizer, padding, by_count = ctx.settings  # type: ignore[attr-defined]
        dense = torch.ops.aten.embedding_dense_backward(grads[0], input, count, padding, by_count)
        if quantizer is not None and input.numel():
            mark_result(dense, quantizer)
            if torch.compiler.is_compiling():  # the number of rows is not known
                dense = quantizer.q(dense, 0)
            else:
                touched = input.unique()
                dense[touched] = quantizer.q(dense[touched], 0)
            mark(dense, quantizer, dense)
        return dense, None, None, None, None


def _rows_of(weight: Tensor, index: Tensor) -> Tensor:
    """Rows as they are stored: of a table in codes with the sign inside, only theirs are read.

    Not by ``weight[index]``, which takes -1 for the last row and uint8 for a mask.
    """
    if isinstance(weight, CodedTensor):
        parts = weight.to_parts()
        if weight.codes.numel() and not weight.signs.numel() and not weight.seeded:
            parts["codes"] = weight.codes.index_select(0, index)
            if weight.scale.ndim == 2 and weight.scale.shape[0] != 1:
                parts["scale"] = weight.scale.index_select(0, index)
            return CodedTensor(parts, weight.format, weight.dtype)
        weight = weight.decode()
    return weight.index_select(0, index)


def _decoded(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, CodedTensor):
        return tensor
    decoded = tensor.decode()
    mark(decoded, tensor, tensor)
    return decoded


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    *args: Any,
    quantizers: Quantizers,
    **kwargs: Any,
) -> Tensor:
    """``torch.nn.functional.embedding_bag`` with Q_W on the table, Q_E and Q_G.

    Args:
        input: Indices.
        weight: The table, shape (rows, features); channels are its rows.
        offsets: Where bags begin in `input`, if that has one dimension.
        max_norm: Longest norm of a row; longer ones are shortened in place first, as in torch.
        norm_type: p of that norm.
        scale_grad_by_freq: Divide a row's gradient by the times it is looked up.
        mode: sum, mean or max.
        sparse: Sparse gradient of the table; only without Q_G.
        per_sample_weights: Factors of the rows, an activation (Q_A); shape of `input`.
        *args: The rest, as torch's function takes it.
        quantizers: The four.
        **kwargs: The same, by name.

    Raises:
        ValueError: A sparse gradient together with Q_G.
    """
    _require_dense(sparse, quantizers)
    if not input.is_nested:
        _shorten(input, weight, max_norm, norm_type)
        max_norm = None

    def compute(table: Tensor, factors: Tensor | None = None) -> Tensor:
        options = (offsets, max_norm, norm_type, scale_grad_by_freq, mode, sparse)
        return F.embedding_bag(input, table, *options, factors, *args, **kwargs)

    operands: tuple[Operand, ...] = (Operand(weight, 0, True),)
    if per_sample_weights is not None:
        operands += (Operand(per_sample_weights, -1, False),)
    return product(compute, operands, quantizers)
