"""Options of every recipe: frozen, typed, self-checking."""

from dataclasses import dataclass
from typing import Literal

from rung.train.fields import Count, Fraction, NonNegative, Pixels, Positive, check_fields


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeOptions:
    """What every recipe lets a user set."""

    batch_size: Count
    """Examples a step (columns of text for the word model)."""
    eval_batch_size: Count = 500
    """Examples a batch in evaluation; changes speed and memory only."""
    log_every: Count = 10
    """Steps between two training lines in metrics.jsonl."""
    checkpoint_minutes: NonNegative = 10.0
    """Minutes between checkpoints inside an epoch; every epoch ends with one too."""
    max_loss: Positive = 50.0
    """A mean training loss above this, over `log_every` steps, counts as divergence (nats)."""
    plateau_factor: Fraction = 0.1
    """Schedule plateau: what the learning rates are multiplied by."""
    plateau_patience: Count = 2
    """Schedule plateau: epochs without a better loss that are waited for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions(RecipeOptions):
    """Options of the image recipes."""

    crop_padding: Pixels = 0
    """Zero pixels on each side before a random crop; 0 crops nothing."""
    flip: bool = False
    """Mirror half of the training images left to right."""
    train_examples: Count | None = None
    """Train on the first so many examples only."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetOptions(ImageOptions):
    """Options of the ResNet-18 recipes."""

    width: Count = 64
    """Channels of the first stage; the stages have 1, 2, 4 and 8 times as many."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class WordOptions(RecipeOptions):
    """Options of the word-level transformer."""

    window: Count = 35
    """Words that are read and predicted in one step, per column."""
    train_tokens: Count | None = None
    """Train on the first so many tokens only."""
    width: Count = 200
    """Width of the model; a multiple of `heads`."""
    heads: Count = 2
    """Attention heads."""
    feed_forward: Count = 200
    """Width of the feed-forward part."""
    layers: Count = 2
    """Transformer layers."""
    dropout: Fraction = 0.2
    """Share of activations that training drops."""

    def __post_init__(self) -> None:
        check_fields(self)
        _require_heads_divide_width(self.heads, self.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacterOptions(RecipeOptions):
    """Options of the character-level GPT."""

    context: Count = 128
    """Characters that are read and predicted in one window."""
    valid_fraction: Positive = 0.1
    """Last share of the text, kept for validation."""
    steps_per_epoch: Count | None = None
    """Steps an epoch; none: as many as read each character once on average."""
    width: Count = 128
    """Width of the model; a multiple of `heads`."""
    heads: Count = 4
    """Attention heads."""
    layers: Count = 4
    """Transformer layers."""
    dropout: Fraction = 0.0
    """Share of activations that training drops."""

    def __post_init__(self) -> None:
        check_fields(self)
        _require_heads_divide_width(self.heads, self.width)
        if self.valid_fraction >= 1:
            raise ValueError(
                f"`valid_fraction` must be less than 1; got {self.valid_fraction!r}. "
                "Leave text to train on."
            )


SentenceTaskName = Literal["sst2", "cola", "mrpc", "rte", "qnli", "mnli"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceOptions(RecipeOptions):
    """Options of the recipes that fine-tune a checkpoint on sentences."""

    checkpoint: str | None = None
    """Folder with config.json, model.safetensors and the tokenizer, in Hugging Face's layout."""
    task: SentenceTaskName = "sst2"
    """Task of GLUE."""
    max_length: Count = 64
    """Most tokens of an example; longer ones are cut."""
    train_examples: Count | None = None
    """Train on the first so many examples only."""

    def __post_init__(self) -> None:
        check_fields(self)


def _require_heads_divide_width(heads: int, width: int) -> None:
    if width % heads:
        raise ValueError(
            f"`heads` must divide `width`; got heads={heads} and width={width}. "
            f"Choose a width such as {heads * max(1, round(width / heads))}."
        )
