"""A small GPT-2 for characters.

Shape letters: B windows of a batch, T tokens of a window, D width, K heads, V tokens in all.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_INITIAL_STD = 0.02


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a token sees itself and the tokens before it.

    Args:
        width: Features D of a token, a multiple of ``heads``.
        heads: Number of heads K.
        dropout: Probability of dropping an attention weight or an output feature.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_dropout = dropout
        self.query_key_value = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        batch, length, _ = hidden.shape
        packed: Tensor = self.query_key_value(hidden)  # (B, T, 3D)
        parts = packed.view(batch, length, 3, self.heads, -1)  # (B, T, 3, K, D/K)
        # (B, T, 3, K, D/K) -> three of (B, K, T, D/K)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        merged = mixed.transpose(1, 2).flatten(2)  # (B, K, T, D/K) -> (B, T, K, D/K) -> (B, T, D)
        output: Tensor = self.dropout(self.projection(merged))
        return output


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them, four times as wide inside.

    Args:
        width: Features D of a token.
        dropout: Probability of dropping an output feature.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.expansion = nn.Linear(width, 4 * width)
        self.projection = nn.Linear(4 * width, width)
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
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width, heads, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        hidden = hidden + self.attention(self.attention_norm(hidden))
        output: Tensor = hidden + self.feed_forward(self.feed_forward_norm(hidden))
        return output


class GPT(nn.Module):
    """GPT-2: pre-norm blocks, learned positions, output head tied to the embedding.

    Weights start from normal(0, 0.02), those of the layers that end in a shortcut from
    normal(0, 0.02 / sqrt(2 layers)), biases from 0.

    Args:
        vocabulary_size: Number of tokens V.
        layers: Number of blocks.
        width: Features D of a token, a multiple of ``heads``.
        heads: Attention heads of a block.
        context: Longest window T.
        dropout: Probability of dropping, in the blocks and after the embedding.

    Raises:
        ValueError: ``width`` is no multiple of ``heads``.

    References:
        A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
    """

    def __init__(
        self,
        vocabulary_size: int,
        layers: int = 4,
        width: int = 128,
        heads: int = 4,
        context: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"`width` must be a multiple of `heads`; got width={width} and heads={heads}. "
                "The default is 128 and 4."
            )
        self.context = context
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.position_embedding = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        self.head.weight = self.token_embedding.weight
        self.apply(_initialize)
        for name, weight in self.named_parameters():
            if name.endswith("projection.weight"):
                nn.init.normal_(weight, std=_INITIAL_STD / math.sqrt(2 * layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits, shape (B, T, V), of the token that follows each of ``tokens`` (B, T).

        Args:
            tokens: Shape (B, T), integer, T at most ``context``.

        Raises:
            ValueError: The window is longer than ``context``.
        """
        length = tokens.shape[1]
        if length > self.context:
            raise ValueError(
                f"`tokens` must be no longer than the context of {self.context}; got a window of "
                f"{length}. Cut the window or build the model with a longer context."
            )
        places = torch.arange(length, device=tokens.device)
        # (B, T, D) + (T, D)
        hidden = self.dropout(self.token_embedding(tokens) + self.position_embedding(places))
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.head(self.norm(hidden))
        return logits


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
