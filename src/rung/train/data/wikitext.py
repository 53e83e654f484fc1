"""WikiText-2, or any text laid out like it, as words."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rung.train.data.files import existing_folder, read_text, required_file
from rung.train.data.tokens import TokenData

END_OF_LINE = "<eos>"
UNKNOWN = "<unk>"
_OFFICIAL_TOKENS = (2_088_628, 217_646, 245_569)
_ORIGIN = (
    "WikiText-2 (wikitext-2-v1.zip, not the raw version; "
    "S. Merity et al., arXiv:1609.07843), e.g. from huggingface.co/datasets/Salesforce/wikitext"
)


def wikitext2(data_dir: str | Path, train_tokens: int | None = None) -> TokenData:
    """Read WikiText-2 as words, with one ``<eos>`` after each line, blank ones included.

    The vocabulary is every word of the whole training text in order of first appearance, and
    ``<unk>``, which also stands for the words of the other texts that the training text lacks.
    The official files give 2,088,628 / 217,646 / 245,569 tokens and 33,278 words.

    Args:
        data_dir: Folder with ``wiki.train.tokens``, ``wiki.valid.tokens`` and
            ``wiki.test.tokens`` (or ``train.txt``, ``valid.txt``, ``test.txt``), each plain, .gz
            or .xz.
        train_tokens: Keep only the first so many training tokens; None keeps all.

    Returns:
        The three parts with one vocabulary.

    Raises:
        DataError: A file is missing, damaged, or not UTF-8 text.
        ValueError: ``train_tokens`` is below 1 or more than there are.

    References:
        S. Merity, C. Xiong, J. Bradbury, R. Socher, "Pointer Sentinel Mixture Models",
        arXiv:1609.07843, 2016.
    """
    folder = existing_folder(data_dir, _ORIGIN)
    words = {part: _read_words(folder, part) for part in ("train", "valid", "test")}
    vocabulary = tuple(dict.fromkeys([*words["train"], UNKNOWN]))
    index = {word: place for place, word in enumerate(vocabulary)}
    train, valid, test = (_encode(words[part], index) for part in ("train", "valid", "test"))
    unknown = float((valid == index[UNKNOWN]).float().mean())
    total = len(train)
    official = (total, len(valid), len(test)) == _OFFICIAL_TOKENS
    name = "WikiText-2" if official else "WikiText-2 layout (not the official set)"
    if train_tokens is not None:
        train = _first(train, train_tokens)
    kept = f"{len(train):,}" + (f" of {total:,}" if len(train) < total else "")
    return TokenData(
        train=train,
        valid=valid,
        test=test,
        vocabulary=vocabulary,
        source=(
            f"{name}: {kept} train, {len(valid):,} valid, {len(test):,} test tokens, "
            f"vocabulary {len(vocabulary):,}, {unknown:.1%} of valid {UNKNOWN}, files in {folder}"
        ),
        unknown_fraction=unknown,
    )


def _read_words(folder: Path, part: str) -> list[str]:
    path = required_file(folder, [f"wiki.{part}.tokens", f"{part}.txt"], _ORIGIN)
    text = read_text(path, _ORIGIN)
    lines = text if text.endswith("\n") else text + "\n"
    return lines.replace("\n", f" {END_OF_LINE} ").split()


def _encode(words: list[str], index: dict[str, int]) -> Tensor:
    unknown = index[UNKNOWN]
    places = (index.get(word, unknown) for word in words)
    return torch.from_numpy(np.fromiter(places, dtype=np.int32, count=len(words)))


def _first(tokens: Tensor, count: int) -> Tensor:
    if not 1 <= count <= len(tokens):
        raise ValueError(
            f"`train_tokens` must lie in 1..{len(tokens)}, the length of the training text; got "
            f"{count}. Leave it out to train on all."
        )
    # A copy, so that the rest of the text is freed.
    return tokens[:count].clone()
