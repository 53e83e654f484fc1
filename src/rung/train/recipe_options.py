"""Options of every recipe: frozen, typed, self-checking."""

from dataclasses import dataclass
from typing import Annotated, Literal

from rung.train.fields import Count, Fraction, NonNegative, Pixels, Positive, Range, check_fields

_Steps = Annotated[int, Range(low=0)]
# Ids of 16 bits.
_Vocabulary = Annotated[int, Range(low=1, high=2**16)]

GPTName = Literal["gpt_micro", "gpt_mini", "gpt_baby", "gpt_half", "gpt2"]
Precision = Literal["float32", "bf16"]
ViTName = Literal["vit_digits", "vit_tiny", "vit_small"]


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
    precision: Precision = "float32"
    """What layers compute in: bf16 by torch's autocast, with images in the channels-last layout;
    weights, state and losses stay as they are."""
    max_loss: Positive = 50.0
    """A mean training loss above this, over `log_every` steps, counts as divergence (nats)."""
    plateau_factor: Fraction = 0.1
    """Schedule plateau: what the learning rates are multiplied by."""
    plateau_patience: Count = 2
    """Schedule plateau: epochs without a better loss that are waited for."""
    warmup_steps: _Steps = 0
    """Schedules cosine and linear: steps in which the learning rates rise to their full values."""
    warmup_share: Fraction | None = None
    """The same as a share of all steps; the longer of the two counts. None: 0.2 with signed Madam,
    whose learning rate is chosen for that, and none with any other optimizer."""
    final_lr_share: Fraction = 0.0
    """Schedules cosine and linear: share of the full learning rates that is left at the end."""
    average_from: Fraction = 0.0
    """Share of the steps after which the mean of the weights is kept, in float32 beside them (4
    bytes a weight), and evaluated instead of them; 0: never."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageOptions(RecipeOptions):
    """Options of the image recipes."""

    crop_padding: Pixels = 0
    """Zero pixels on each side before a random crop; 0 crops nothing."""
    flip: bool = False
    """Mirror half of the training images left to right."""
    train_examples: Count | None = None
    """Train on the first so many examples only."""
    steps_per_epoch: Count | None = None
    """Steps an epoch, over as many passes or as much of one as that takes; none: one pass."""

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
class ViTOptions(ImageOptions):
    """Options of the vision transformers."""

    preset: ViTName = "vit_tiny"
    """Size of the model where `layers`, `width` and `heads` don't say otherwise."""
    layers: Count | None = None
    """Blocks; none: the preset's."""
    width: Count | None = None
    """Width of the model, a multiple of `heads`; none: the preset's."""
    heads: Count | None = None
    """Attention heads; none: the preset's."""
    initial_std: Positive = 0.02
    """Standard deviation that linear layers, positions and class token start from."""
    patch: Count = 16
    """Side of a patch in pixels; divides the side of the images."""
    dropout: Fraction = 0.0
    """Share of activations that training drops."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderViTOptions(ViTOptions):
    """Options of the vision transformer on folders of images."""

    image_size: Count = 224
    """Side of the images that the model sees, in pixels; a multiple of `patch`."""
    resize: Count | None = None
    """Shorter side that images are resized to before they are cropped; none: 8/7 of image_size."""
    memory_gib: Positive = 8.0
    """Most memory that the decoded images may take, in GiB."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.resize is not None and self.resize < self.image_size:
            raise ValueError(
                f"`resize` must be at least `image_size`; got resize={self.resize} and "
                f"image_size={self.image_size}. A crop can't be larger than the image."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WordOptions(RecipeOptions):
    """Options of the word-level transformer."""

    window: Count = 35
    """Words that are read and predicted in one step, per column."""
    train_tokens: Count | None = None
    """Train on the first so many tokens only."""
    eval_tokens: Count | None = None
    """Validate on the first so many tokens only; none: all."""
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
class WindowOptions(RecipeOptions):
    """Options of the language models that read windows drawn at random."""

    context: Count = 128
    """Tokens (or characters) that are read and predicted in one window."""
    steps_per_epoch: Count | None = None
    """Steps an epoch; none: as many as read each token once on average."""
    eval_tokens: Count | None = None
    """Validate on the first so many tokens only; none: all."""
    dropout: Fraction = 0.0
    """Share of activations that training drops."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacterOptions(WindowOptions):
    """Options of the character-level GPT."""

    valid_fraction: Positive = 0.1
    """Last share of the text, kept for validation."""
    width: Count = 128
    """Width of the model; a multiple of `heads`."""
    heads: Count = 4
    """Attention heads."""
    layers: Count = 4
    """Transformer layers."""

    def __post_init__(self) -> None:
        check_fields(self)
        _require_heads_divide_width(self.heads, self.width)
        if self.valid_fraction >= 1:
            raise ValueError(
                f"`valid_fraction` must be less than 1; got {self.valid_fraction!r}. "
                "Leave text to train on."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class GPTOptions(WindowOptions):
    """Options of the GPTs on words and on files of tokens."""

    preset: GPTName = "gpt_baby"
    """Size of the model where `layers`, `width` and `heads` don't say otherwise."""
    layers: Count | None = None
    """Blocks; none: the preset's."""
    width: Count | None = None
    """Width of the model, a multiple of `heads`; none: the preset's."""
    heads: Count | None = None
    """Attention heads; none: the preset's."""
    bias: bool = False
    """Biases in linear layers and norms, as GPT-2 has them; nanoGPT leaves them out."""
    train_tokens: Count | None = None
    """Train on the first so many tokens only; none: all."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenFileOptions(GPTOptions):
    """Options of the GPT on files of token ids."""

    vocabulary_size: _Vocabulary | None = None
    """Number of token ids; none: what meta.pkl beside the files says, else GPT-2's 50,304."""

    def __post_init__(self) -> None:
        check_fields(self)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class GANOptions(RecipeOptions):
    """Options of the class-conditional GAN."""

    width: Count = 128
    """Channels of the discriminator; the generator has twice as many."""
    noise: Count = 128
    """Length of the noise that an image is made of."""
    flip: bool = True
    """Mirror half of the real images left to right."""
    train_examples: Count | None = None
    """Train on the first so many images only."""
    steps_per_epoch: Count | None = None
    """Steps an epoch, over as many passes or as much of one as that takes; none: one pass."""
    classifier: str | None = None
    """Run folder of cifar10-resnet18, in whose features images are compared."""
    inception: str | None = None
    """TorchScript file of Inception-v3 instead: images (N, 3, H, W), uint8, to (N, D)."""
    eval_images: Annotated[int, Range(low=2)] = 10_000
    """Images that an evaluation generates; published FIDs take 50,000."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.classifier is not None and self.inception is not None:
            raise ValueError(
                "Give one of `classifier` and `inception`; got both. Each has a metric of its own."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNet50Options(RecipeOptions):
    """Options of ResNet-50 on folders of images that are decoded while it trains."""

    width: Count = 64
    """Channels of the first stage's 3x3 convolutions; the stages have 1, 2, 4 and 8 times as many,
    and four times that where they end."""
    image_size: Count = 224
    """Side of the images that the model sees, in pixels."""
    resize: Count | None = None
    """Evaluation: shorter side that images are resized to before the middle is cut out; none: 8/7
    of image_size."""
    least_area: Annotated[float, Range(low=0, low_open=True, high=1)] = 0.08
    """Training: smallest share of an image that a random crop covers; 1 crops little."""
    flip: bool = True
    """Mirror half of the training images left to right."""
    workers: Count = 4
    """Threads that decode images; changes speed only."""
    train_examples: Count | None = None
    """Train on so many images only, evenly from all classes."""
    steps_per_epoch: Count | None = None
    """Steps an epoch, over as many passes or as much of one as that takes; none: one pass."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.resize is not None and self.resize < self.image_size:
            raise ValueError(
                f"`resize` must be at least `image_size`; got resize={self.resize} and "
                f"image_size={self.image_size}. A crop can't be larger than the image."
            )


def _require_heads_divide_width(heads: int, width: int) -> None:
    if width % heads:
        raise ValueError(
            f"`heads` must divide `width`; got heads={heads} and width={width}. "
            f"Choose a width such as {heads * max(1, round(width / heads))}."
        )
