"""The pre-norm block that GPT-2 and the vision transformer share.

Shape letters: B sequences of a batch, T tokens of a sequence, D width, K heads.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Size:
    """How large a transformer is.

    Attributes:
        layers: Number of blocks.
        width: Features D of a token, a multiple of ``heads``.
        heads: Attention heads K of a block.
    """

    layers: int
    width: int
    heads: int


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself.

    Args:
        width: Features D of a token, a multiple of ``heads``.
        heads: Number of heads K.
        dropout: Probability of dropping an attention weight or an output feature.
        causal: Whether a token sees only itself and the tokens before it.
        bias: Whether the linear layers have biases.
    """

    def __init__(
        self, width: int, heads: int, dropout: float, *, causal: bool, bias: bool = True
    ) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.attention_dropout = dropout
        self.query_key_value = nn.Linear(width, 3 * width, bias=bias)
        self.projection = nn.Linear(width, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        batch, length, _ = hidden.shape
        packed: Tensor = self.query_key_value(hidden)  # (B, T, 3D)
        parts = packed.view(batch, length, 3, self.heads, -1)  # (B, T, 3, K, D/K)
        # (B, T, 3, K, D/K) -> three of (B, K, T, D/K)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=self.causal
        )
        merged = mixed.transpose(1, 2).flatten(2)  # (B, K, T, D/K) -> (B, T, K, D/K) -> (B, T, D)
        output: Tensor = self.dropout(self.projection(merged))
        return output


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, four times as wide inside.

    Args:
        width: Features D of a token.
        dropout: Probability of dropping an output feature.
        bias: Whether the linear layers have biases.
    """

    def __init__(self, width: int, dropout: float, *, bias: bool = True) -> None:
        super().__init__()
        self.expansion = nn.Linear(width, 4 * width, bias=bias)
        self.projection = nn.Linear(4 * width, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        output: Tensor = self.dropout(self.projection(F.gelu(self.expansion(hidden))))
        return output


class Block(nn.Module):
    """Attention and feed-forward part, each behind a layer norm and beside a shortcut.

    Args:
        width: Features D of a token.
        heads: Number of heads.
        dropout: Probability of dropping, as the parts use it.
        causal: Whether a token sees only itself and the tokens before it.
        bias: Whether linear layers and norms have biases.
        eps: Added to the variance in the norms; 1e-5 in GPT-2, 1e-6 in vision transformers.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        *,
        causal: bool,
        bias: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps, bias=bias)
        self.attention = SelfAttention(width, heads, dropout, causal=causal, bias=bias)
        self.feed_forward_norm = nn.LayerNorm(width, eps, bias=bias)
        self.feed_forward = FeedForward(width, dropout, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        hidden = hidden + self.attention(self.attention_norm(hidden))
        output: Tensor = hidden + self.feed_forward(self.feed_forward_norm(hidden))
        return output


def require_heads_divide_width(width: int, heads: int, example: str) -> None:
    """Refuse a width that heads can't share.

    Raises:
        ValueError: ``width`` is no multiple of ``heads``; the text ends with ``example``.
    """
    if width % heads:
        raise ValueError(
            f"`width` must be a multiple of `heads`; got width={width} and heads={heads}. {example}"
        )
