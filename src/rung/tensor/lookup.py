"""`F.embedding` of a table in codes: rows are looked up as codes, and only these are decoded."""

from typing import Any

import torch
from torch import Tensor

from rung.formats import Ladder
from rung.tensor._parts import decode_parts
from rung.tensor.coded import CodedTensor

_INDICES = (torch.int32, torch.int64)


def serves(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> bool:
    """Whether `embedding` takes these arguments of `F.embedding`; the others are for torch."""
    if not isinstance(weight, CodedTensor) or type(input) is not Tensor or sparse:
        return False
    if torch.compiler.is_compiling() or torch.autograd.forward_ad._current_level >= 0:
        return False
    if weight.ndim != 2 or max_norm is not None or isinstance(weight.format, Ladder):
        return False  # a ladder's signs lie beside its codes
    count = weight.shape[0]
    return (
        input.dtype in _INDICES
        and input.device == weight.device
        # A table that is read as a whole is decoded as a whole.
        and 0 < input.numel() < count
        and (padding_idx is None or -count <= padding_idx < count)
        and (weight.scale.numel() == 1 or weight.scale.shape in ((count, 1), weight.shape))
    )


def embedding(
    input: Tensor,
    weight: CodedTensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of a table at indices; the table's gradient is dense, as torch's.

    Raises:
        IndexError: An index beyond the table.
    """
    count = weight.shape[0]
    padding = -1 if padding_idx is None else padding_idx % count
    return _Embedding.apply(input, weight, padding, scale_grad_by_freq)  # type: ignore[no-any-return, no-untyped-call]


class _Embedding(torch.autograd.Function):
    """Keeps the indices alone."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: CodedTensor, padding: int, by_frequency: bool
    ) -> Tensor:
        ctx.save_for_backward(input)
        ctx.rest = (weight.shape[0], padding, by_frequency)
        flat = input.reshape(-1)
        scale = weight.scale
        if scale.numel() > 1:
            scale = scale.index_select(0, flat)
        codes = weight.codes.index_select(0, flat)
        rows = decode_parts(weight.format, codes, scale, weight.signs, weight.key)
        return rows.to(weight.dtype).reshape(*input.shape, weight.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        of_weight = torch.ops.aten.embedding_dense_backward(grads[0], input, *ctx.rest)
        return None, of_weight, None, None
