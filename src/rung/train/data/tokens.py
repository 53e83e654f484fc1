"""Text as numbers, as every language recipe takes it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class TokenData:
    """One text in three parts, each a row of indices into one vocabulary.

    Attributes:
        train: Shape (N,), int32 or, where a file is mapped, uint16; 0 to ``len(vocabulary)`` - 1.
        valid: Shape (M,), likewise.
        test: Shape (L,), likewise, or None where the data set has no third part.
        vocabulary: The tokens, each once; a token's place is its index.
        source: One line: which data, how many tokens, from where.
        unknown_fraction: Share of ``valid`` that reads ``<unk>``, 0 to 1: as the text writes it
            and for words outside the vocabulary. The more there are, the easier the text.
    """

    train: Tensor
    valid: Tensor
    test: Tensor | None
    vocabulary: tuple[str, ...]
    source: str
    unknown_fraction: float = 0.0
