"""Quantized form of torch's attention: both of its products, with the softmax between them.

Shape letters: B batch and heads, L queries, S keys, D features of a head.
"""

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rung.nn.product import Operand, product, unintercepted
from rung.nn.quantizer import Quantizers


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    quantizers: Quantizers,
) -> Tensor:
    """``torch.nn.functional.scaled_dot_product_attention`` as two quantized products.

        scores = Q_A(scale * query) Q_A(key)^T       gradient: Q_E
        y      = Q_A(dropout(softmax(scores + mask))) Q_A(value)       gradient: Q_E

    The weights of attention, (B, L, S), are held in memory, which torch's fused kernels avoid.

    Args:
        query: Shape (B..., L, D).
        key: Shape (B..., S, D).
        value: Shape (B..., S, features).
        attn_mask: Broadcastable to (B..., L, S); bool (True takes part) or added to the scores.
        dropout_p: Probability of dropping a weight of attention; applied whenever above 0.
        is_causal: A query sees keys up to its own index.
        scale: Default 1 / sqrt(D).
        enable_gqa: Fewer heads of keys and values than of queries, each shared.
        quantizers: The four; both products take Q_A and Q_E.
    """
    if quantizers.activation is None and quantizers.error is None:
        with unintercepted():
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale,
                enable_gqa=enable_gqa,
            )  # fmt: skip
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    # Scaling the queries touches fewer numbers than scaling the scores, and their format follows.
    scores = product(
        lambda q, k: torch.matmul(q, k.transpose(-2, -1)),
        (Operand(query * scale, -1, False), Operand(key, -1, False)),
        quantizers,
    )
    weights = _masked_softmax(scores, attn_mask, is_causal)
    if dropout_p > 0:
        weights = F.dropout(weights, dropout_p)
    operands = (Operand(weights.to(value.dtype), -1, False), Operand(value, -1, False, -2))
    return product(torch.matmul, operands, quantizers)


def _masked_softmax(scores: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    if is_causal:
        if mask is not None:
            raise ValueError(
                "`is_causal` and `attn_mask` exclude each other; got both. Put the causal mask "
                "into `attn_mask`."
            )
        # Added, as torch does: a masked copy would take a pass more here and two more backward.
        # In place: nobody else has the scores, and they are the largest tensor here.
        bias = scores.new_full(scores.shape[-2:], -torch.inf).triu(1)
        # Every query sees the first key, so no row is empty.
        return scores.add_(bias).softmax(-1)
    if mask is None:
        return scores.softmax(-1)
    masked = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    # A query that sees no key gets zeros, not NaN.
    return torch._safe_softmax(masked, -1)


def body_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of torch whose own products can be intercepted.

    Under a mode, torch's Python functions ask to be intercepted as a whole. This is the same code
    with that question answered "no", so that what it calls is asked instead.
    """
    assert isinstance(function, FunctionType)
    names = {**function.__globals__, "has_torch_function": lambda tensors: False}
    copy = FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
