"""GPT-2, from a toy for characters to the published size of 124 million weights.

Shape letters: B windows of a batch, T tokens of a window, D width, V tokens in all.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from rung.train.models.transformer_block import Block, Size, require_heads_divide_width

_INITIAL_STD = 0.02

SIZES = {
    "gpt_micro": Size(layers=4, width=128, heads=4),
    "gpt_mini": Size(layers=6, width=192, heads=6),
    "gpt_baby": Size(layers=6, width=384, heads=6),
    "gpt_half": Size(layers=8, width=512, heads=8),
    "gpt2": Size(layers=12, width=768, heads=12),
}
"""Names for `GPT.preset`; gpt_baby is nanoGPT's for Shakespeare's characters."""

# Both from GPT-2: the longest window, and 50,257 tokens filled up to a multiple of 64 as nanoGPT
# does, which GPUs multiply faster.
GPT2_CONTEXT = 1024
GPT2_VOCABULARY = 50_304


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
        bias: Whether linear layers and norms have biases; GPT-2 has them, nanoGPT leaves them out.

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
        bias: bool = True,
    ) -> None:
        super().__init__()
        require_heads_divide_width(width, heads, "The default is 128 and 4.")
        self.context = context
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.position_embedding = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, heads, dropout, causal=True, bias=bias) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, bias=bias)
        self.head = nn.Linear(width, vocabulary_size, bias=False)
        self.head.weight = self.token_embedding.weight
        self.apply(_initialize)
        for name, weight in self.named_parameters():
            if name.endswith("projection.weight"):
                nn.init.normal_(weight, std=_INITIAL_STD / math.sqrt(2 * layers))

    @classmethod
    def preset(cls, name: str, vocabulary_size: int = GPT2_VOCABULARY, **changes: Any) -> "GPT":
        """A model of a known size, for windows of 1,024 tokens unless ``changes`` say otherwise.

        Args:
            name: One of `SIZES`; gpt2 has 124 M weights at 50,257 or 50,304 tokens.
            vocabulary_size: Number of tokens V.
            changes: Arguments of `GPT` that differ.

        Raises:
            ValueError: No size has this name; the text lists those that exist.
        """
        size = preset_size(name)
        sizes = {"layers": size.layers, "width": size.width, "heads": size.heads}
        return cls(vocabulary_size, **(sizes | {"context": GPT2_CONTEXT} | changes))

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


def preset_size(name: str) -> Size:
    """The size of a name of `SIZES`.

    Raises:
        ValueError: No size has this name; the text lists those that exist.
    """
    if name not in SIZES:
        raise ValueError(f"Unknown GPT {name!r}; the sizes are: {', '.join(SIZES)}.")
    return SIZES[name]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
