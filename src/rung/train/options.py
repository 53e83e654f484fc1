"""Options of the update rules and of every recipe: frozen, typed, self-checking."""

from dataclasses import dataclass
from typing import Literal

from rung import formats
from rung.formats import LNS
from rung.train.fields import Count, Fraction, NonNegative, Pixels, Positive, check_fields

State = Literal["fp32", "bf16", "log8"]
Rounding = Literal["nearest", "stochastic"]
Start = Literal["round", "uniform"]
Signs = Literal["seed", "packed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SGDOptions:
    """Stochastic gradient descent with momentum."""

    momentum: Fraction = 0.9
    """Share of the last step that is repeated."""
    weight_decay: NonNegative = 0.0
    """L2 penalty, added to the gradient."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""
    update_format: str | None = None
    """LNS to which every weight is rounded after each step, e.g. lns10; none: float32."""
    update_rounding: Rounding = "nearest"
    """How a stepped weight becomes a number of `update_format`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.update_format is not None:
            require_lns("update_format", self.update_format)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamOptions:
    """Adam and AdamW."""

    beta1: Fraction = 0.9
    """Decay of the first moment per step."""
    beta2: Fraction = 0.999
    """Decay of the second moment per step."""
    weight_decay: NonNegative = 0.0
    """Adam: L2 penalty in the gradient. AdamW: decoupled, times lr per step."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""
    update_format: str | None = None
    """LNS to which every weight is rounded after each step, e.g. lns10; none: float32."""
    update_rounding: Rounding = "nearest"
    """How a stepped weight becomes a number of `update_format`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.update_format is not None:
            require_lns("update_format", self.update_format)


@dataclass(frozen=True, kw_only=True, slots=True)
class MadamOptions:
    """Madam on float weights; norm gains and biases go to AdamW."""

    beta: Fraction = 0.999
    """Decay of the second moment per step."""
    clip: Positive = 8.0
    """Largest step, in multiples of lr."""
    scale_bound: Positive = 3.0
    """Largest weight, in multiples of the tensor's initial root mean square."""
    weight_decay: NonNegative = 0.0
    """Multiplicative decay, times lr per step."""
    state: State = "fp32"
    """How the second moment is stored."""
    additive_lr: Positive = 1e-3
    """Learning rate of AdamW, which trains norm gains and biases."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""
    update_format: str | None = None
    """LNS to which every weight is rounded after each step, e.g. lns10; none: float32."""
    update_rounding: Rounding = "nearest"
    """How a stepped weight becomes a number of `update_format`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.update_format is not None:
            require_lns("update_format", self.update_format)


@dataclass(frozen=True, kw_only=True, slots=True)
class BBitMadamOptions:
    """Madam on weights that are ladder codes; norm gains and biases go to AdamW in float32."""

    beta: Fraction = 0.999
    """Decay of the second moment per step."""
    clip: Positive = 8.0
    """Largest step, in multiples of lr."""
    scale_bound: Positive = 3.0
    """Top rung, in multiples of the tensor's initial root mean square."""
    weight_decay: NonNegative = 0.0
    """Multiplicative decay in rungs, times lr per step."""
    state: State = "bf16"
    """How the second moment is stored."""
    rounding: Rounding = "stochastic"
    """How a step becomes whole rungs; nearest needs lr of at least the base precision."""
    init: Start = "round"
    """First codes: rungs nearest to the usual initialisation, or drawn uniformly."""
    signs: Signs = "seed"
    """Signs from the seed (0 bits a weight) or packed (1 bit a weight)."""
    additive_lr: Positive = 1e-3
    """Learning rate of AdamW, which trains norm gains and biases."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class LNSMadamOptions:
    """Madam on weights that are LNS codes; norm gains and biases go to AdamW in float32.

    Its learning rate is in octaves: the typical change of log2|W| per step.
    """

    beta: Fraction = 0.999
    """Decay of the second moment per step."""
    clip: Positive = 10.0
    """Largest step, in multiples of lr."""
    scale_bound: Positive = 3.0
    """Largest code, in multiples of the tensor's initial root mean square."""
    weight_decay: NonNegative = 0.0
    """Multiplicative decay in octaves, times lr per step."""
    state: State = "bf16"
    """How the second moment is stored."""
    rounding: Rounding = "nearest"
    """How a step becomes a whole number of codes."""
    update_format: str = "lns16"
    """LNS that the weights live in."""
    additive_lr: Positive = 1e-3
    """Learning rate of AdamW, which trains norm gains and biases."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""

    def __post_init__(self) -> None:
        check_fields(self)
        require_lns("update_format", self.update_format)


OptimizerOptions = SGDOptions | AdamOptions | MadamOptions | BBitMadamOptions | LNSMadamOptions


def require_lns(field: str, name: str) -> LNS:
    """The LNS of a name.

    Args:
        field: What is set, for the error.
        name: A name such as ``"lns8"`` or ``"lns8_b4"``.

    Raises:
        ValueError: The format is unknown, or another kind of format.
    """
    found = formats.get(name)
    if not isinstance(found, LNS):
        known = ", ".join(known for known in formats.names() if known.startswith("lns"))
        raise ValueError(
            f"`{field}` must name a logarithmic number system; got {name!r}. Choose one of: "
            f"{known}."
        )
    return found


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
