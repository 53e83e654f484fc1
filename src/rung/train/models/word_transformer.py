"""The small word-level transformer of the WikiText-2 recipe.

Shape letters: T tokens of a window, B columns of a batch, D width, V words.
"""

import math

import torch
from torch import Tensor, nn


class WordTransformer(nn.Module):
    """Transformer encoder with a causal mask over words; embedding and decoder are not tied.

    Args:
        vocabulary_size: Number of words V.
        width: Features D of a token, even and a multiple of ``heads``.
        heads: Attention heads of a layer.
        feed_forward: Hidden features of a layer's feed-forward part.
        layers: Number of layers.
        dropout: Probability of dropping a feature, in the layers and after the embedding.

    Raises:
        ValueError: ``width`` is odd or no multiple of ``heads``.

    References:
        A. Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, 2017.
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int = 200,
        heads: int = 2,
        feed_forward: int = 200,
        layers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if width % 2 or width % heads:
            raise ValueError(
                f"`width` must be even and a multiple of `heads`; got width={width} and "
                f"heads={heads}. The published model has 200 and 2."
            )
        self.width = width
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(width, heads, feed_forward, dropout)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.decoder = nn.Linear(width, vocabulary_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits, shape (T, B, V), of the word that follows each of ``tokens`` (T, B).

        Args:
            tokens: Shape (T, B), integer; a word sees itself and the words above it.
        """
        length = tokens.shape[0]
        embedded: Tensor = self.embedding(tokens) * math.sqrt(self.width)  # (T, B) -> (T, B, D)
        places = sinusoids(length, self.width, tokens.device).to(embedded.dtype)
        hidden = self.dropout(embedded + places.unsqueeze(1))  # (T, D) -> (T, 1, D)
        mask = nn.Transformer.generate_square_subsequent_mask(
            length, device=tokens.device, dtype=embedded.dtype
        )
        logits: Tensor = self.decoder(self.encoder(hidden, mask=mask, is_causal=True))
        return logits


def sinusoids(length: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Return sine and cosine positions; computed in each pass, so no window is too long.

        even column 2i: sin(t / 10000^(2i / width)), odd column 2i + 1: its cosine

    Args:
        length: Number of positions.
        width: Number of columns, even.
        device: Where the result lies.

    Returns:
        Shape (length, width), float32.

    References:
        A. Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, 2017, section 3.5.
    """
    places = torch.arange(length, device=device, dtype=torch.float32)
    columns = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    angles = torch.outer(places, torch.exp(columns * (-math.log(10000.0) / width)))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)  # (T, D/2, 2) -> (T, D)
