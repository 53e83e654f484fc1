"""A BERT from a local folder in Hugging Face's layout, as a classifier of sentences.

Shape letters: B examples of a batch, T tokens of the longest of them, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from rung.extras import require

Encode = Callable[[Sequence[tuple[str, ...]]], Tensor]
"""From examples of one or two sentences to ids, mask and segments: (B, 3, T), int64."""

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# Without any of them transformers makes a tokenizer that knows no word, and says nothing.
_TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
_ORIGIN = (
    "Give a folder that transformers' save_pretrained wrote for a BERT and its tokenizer, or one "
    "downloaded whole, e.g. google-bert/bert-base-uncased from huggingface.co"
)


class CheckpointError(ValueError):
    """A folder doesn't hold a model and a tokenizer that can classify sentences."""


class SentenceClassifier(nn.Module):
    """A classifier of transformers behind one tensor of tokens.

    Args:
        classifier: A model for sequence classification; its ``forward`` takes ``input_ids``,
            ``attention_mask`` and, where it tells two sentences apart, ``token_type_ids``.
        fresh: Names of the parameters that the checkpoint lacked, which start at random.
    """

    def __init__(self, classifier: Any, fresh: Sequence[str] = ()) -> None:
        super().__init__()
        self.classifier: Any = classifier
        self.fresh = tuple(sorted(fresh))
        # RoBERTa has a table of one type, and DistilBERT none: their tokens are all alike.
        self._segmented = getattr(classifier.config, "type_vocab_size", 0) > 1

    @property
    def description(self) -> str:
        """Kind and size of the model, and the parameters that start at random, in a few words."""
        count = sum(parameter.numel() for parameter in self.parameters())
        fresh = ", ".join(self.fresh) or "nothing"
        return f"{self.classifier.config.model_type}, {count:,} parameters, {fresh} at random"

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ids, mask and segments (B, 3, T), int64, to logits (B, C)."""
        ids, mask, segments = tokens.unbind(1)
        types = {"token_type_ids": segments} if self._segmented else {}
        logits: Tensor = self.classifier(input_ids=ids, attention_mask=mask, **types).logits
        return logits


def load_classifier(checkpoint: str | Path, classes: int) -> SentenceClassifier:
    """Read a model from a folder; nothing is downloaded and no code of the folder is run.

    What the checkpoint lacks of the classification head (for BERT the last layer, and sometimes the
    pooler) starts at random, from torch's global generator, and is listed in ``fresh``. A head for
    another number of classes counts as lacking.

    Args:
        checkpoint: Folder with ``config.json`` and ``model.safetensors`` (or its shards).
        classes: Number of classes C, at least 2.

    Returns:
        The classifier, float32, in training mode.

    Raises:
        CheckpointError: The folder or a file is missing or damaged, the model can't classify
            sequences, or its encoder lacks weights.
        ImportError: transformers is missing.
    """
    folder = _checked_folder(checkpoint)
    transformers = require("transformers")
    config = _read_config(transformers, folder)
    if type(config) not in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise CheckpointError(
            "`checkpoint` must hold a model like BERT, which transformers can make a classifier of "
            f"sequences; got {folder}: model type {config.model_type!r}. {_ORIGIN}."
        )
    try:
        with _quiet(transformers):
            model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                num_labels=classes,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    # The safetensors library raises an exception of its own, which derives from Exception alone.
    except Exception as error:
        raise CheckpointError(
            f"{folder} must hold the whole weights of its model; got: {error}. {_ORIGIN}."
        ) from error
    fresh = _fresh(folder, model, report)
    # Nothing attends to padding, so its row gets no gradient and needs no rule of its own, which
    # would keep the largest matrix out of every format: a code has no zero to stay at.
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.padding_idx = None
    return SentenceClassifier(model.float().train(), fresh)


def load_encoder(checkpoint: str | Path, max_length: int, pair: bool = False) -> Encode:
    """Read a tokenizer from a folder.

    Args:
        checkpoint: Folder with ``config.json`` and ``tokenizer.json`` or the files of a vocabulary.
        max_length: Most tokens of an example, marks at begin and end included; longer ones are cut.
        pair: Whether examples have two sentences.

    Returns:
        A function from examples to ids, mask (1 for a token, 0 for padding) and segments (1 for the
        second sentence), stacked to (B, 3, T), int64, T the length of the longest example.

    Raises:
        CheckpointError: The folder or the tokenizer is missing or damaged, the tokenizer doesn't
            pad or has more tokens than the model.
        ValueError: ``max_length`` leaves no room for a token or is more than the model takes.
        ImportError: transformers is missing.
    """
    folder = _checked_folder(checkpoint)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise CheckpointError(
            f"{folder} must hold a tokenizer: {', '.join(_TOKENIZERS[:-1])} or {_TOKENIZERS[-1]}; "
            f"got none of them. {_ORIGIN}."
        )
    transformers = require("transformers")
    config = _read_config(transformers, folder)
    try:
        with _quiet(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    # The tokenizers library raises bare Exceptions.
    except Exception as error:
        raise CheckpointError(
            f"{folder} must hold a readable tokenizer; got: {error}. {_ORIGIN}."
        ) from error
    _check_tokenizer(folder, tokenizer, config)
    _check_length(max_length, tokenizer, config, pair)

    def encode(examples: Sequence[tuple[str, ...]]) -> Tensor:
        sentences = (list(column) for column in zip(*examples, strict=True))
        found = tokenizer(
            *sentences,
            padding=True,
            truncation=True,
            max_length=max_length,
            return_attention_mask=True,
            return_token_type_ids=True,
            return_tensors="pt",
        )
        names = ("input_ids", "attention_mask", "token_type_ids")
        return torch.stack([found[name] for name in names], dim=1)

    return encode


def _checked_folder(checkpoint: str | Path) -> Path:
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        raise CheckpointError(
            f"`checkpoint` must be an existing folder; got {folder}: {got}. {_ORIGIN}."
        )
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} must hold config.json; got no such file. {_ORIGIN}.")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise CheckpointError(
            f"{folder} must hold {' or '.join(_WEIGHTS)}; got no such file. Weights in a pickle "
            f"aren't read. {_ORIGIN}."
        )
    return folder


def _read_config(transformers: ModuleType, folder: Path) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'} must describe a model that transformers "
            f"{transformers.__version__} knows; got: {error}. {_ORIGIN}."
        ) from error


def _fresh(folder: Path, model: Any, report: dict[str, Any]) -> list[str]:
    """Names of the parameters that start at random; all of them belong to the head."""
    mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    fresh = sorted({*report["missing_keys"], *mismatched})
    # Some versions of transformers report names as the file has them, without the prefix; and
    # BERT's pooler is part of the head in all but name: language models are saved without it.
    encoder, prefix = model.base_model.state_dict(), f"{model.base_model_prefix}."
    inner = {name: name.removeprefix(prefix) for name in fresh}
    lacking = [
        name for name in fresh if inner[name] in encoder and not inner[name].startswith("pooler.")
    ]
    if lacking:
        shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        raise CheckpointError(
            f"{folder} must hold every weight of the encoder in its shape; {len(lacking)} are "
            f"missing or of another shape: {shown}. {_ORIGIN}."
        )
    return fresh


def _check_tokenizer(folder: Path, tokenizer: Any, config: Any) -> None:
    if tokenizer.pad_token_id is None:
        raise CheckpointError(
            f"{folder}'s tokenizer must have a token for padding; got none. {_ORIGIN}."
        )
    if len(tokenizer) > config.vocab_size:
        raise CheckpointError(
            f"{folder}'s tokenizer must have no more tokens than the model's {config.vocab_size}; "
            f"got {len(tokenizer)}. {_ORIGIN}."
        )


def _check_length(max_length: int, tokenizer: Any, config: Any, pair: bool) -> None:
    least = tokenizer.num_special_tokens_to_add(pair=pair) + (2 if pair else 1)
    most = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", 10**9))
    if not least <= max_length <= most:
        raise ValueError(
            f"`max_length` must lie in {least}..{most} for this checkpoint; got {max_length}. "
            "The marks at the begin and end of a sentence count too."
        )


@contextmanager
def _quiet(transformers: ModuleType) -> Iterator[None]:
    """Keep transformers' table of new weights and its progress bar off the screen.

    What the table says is checked by `_fresh`, and kept in `SentenceClassifier.fresh`.
    """
    log = transformers.utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
