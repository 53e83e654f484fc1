"""Shapes of BERT and GPT-2: the products of the published models, fresh weights.

Shape letters: B sequences of a batch, T tokens of a sequence, D width, V tokens in all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a transformer is.

    Attributes:
        layers: Blocks.
        width: Features D of a token.
        heads: Attention heads, which divide the width.
        vocabulary: Tokens V.
        context: Longest sequence.
        causal: GPT's order (norms first, a mask, output tied to the embedding), else BERT's (norms
            last, two types of segments, a pooler and a classifier of 2 classes).
    """

    layers: int
    width: int
    heads: int
    vocabulary: int
    context: int
    causal: bool


class Block(nn.Module):
    """Attention and a feed-forward part four times as wide, norms before or after them.

    Args:
        shape: Width, heads and order.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.shape = shape
        self.query_key_value = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.expansion = nn.Linear(width, 4 * width)
        self.contraction = nn.Linear(4 * width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        if self.shape.causal:
            hidden = hidden + self._attend(self.attention_norm(hidden))
            total: Tensor = hidden + self._feed_forward(self.feed_forward_norm(hidden))
            return total
        hidden = self.attention_norm(hidden + self._attend(hidden))
        output: Tensor = self.feed_forward_norm(hidden + self._feed_forward(hidden))
        return output

    def _attend(self, hidden: Tensor) -> Tensor:
        parts = self.query_key_value(hidden).unflatten(-1, (3, self.shape.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # three of (B, heads, T, D / heads)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=self.shape.causal)
        output: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return output

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.contraction(gelu(self.expansion(hidden)))
        return output


class Transformer(nn.Module):
    """GPT-2 or BERT with a classifier.

    Args:
        shape: Its size and kind.

    References:
        J. Devlin et al., "BERT", arXiv:1810.04805, 2018. A. Radford et al., "Language Models are
        Unsupervised Multitask Learners", 2019. T. Brown et al., "Language Models are Few-Shot
        Learners", arXiv:2005.14165, 2020, table 2.1.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.position_embedding = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        if shape.causal:
            self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
            self.head.weight = self.token_embedding.weight
        else:
            self.segment_embedding = nn.Embedding(2, shape.width)
            self.pooler = nn.Linear(shape.width, shape.width)
            self.classifier = nn.Linear(shape.width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T), int64, to logits: (B, T, V) of GPT, (B, 2) of BERT."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        hidden = self.token_embedding(tokens) + self.position_embedding(places)
        if not self.shape.causal:
            hidden = self.norm(hidden + self.segment_embedding(torch.zeros_like(tokens)))
        for block in self.blocks:
            hidden = block(hidden)
        if self.shape.causal:
            logits: Tensor = self.head(self.norm(hidden))
            return logits
        classes: Tensor = self.classifier(self.pooler(hidden[:, 0]).tanh())
        return classes
