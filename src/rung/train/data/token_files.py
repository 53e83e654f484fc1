"""Files of token ids as nanoGPT's prepare.py writes them, mapped into memory and not read whole."""

import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rung.train.data.files import DataError, existing_folder, read_bytes
from rung.train.data.restricted_pickle import load_dictionary
from rung.train.data.tokens import TokenData

# GPT-2's 50,257 tokens, filled up to a multiple of 64 as nanoGPT does.
_DEFAULT_VOCABULARY = 50_304
# Files of 16 bits a token hold no more ids.
_LARGEST_VOCABULARY = 2**16
_ORIGIN = (
    "train.bin and val.bin, 16-bit token ids as a prepare.py of github.com/karpathy/nanoGPT writes "
    "them"
)
# Ids are checked in pieces of this many, so that a large file never lies in memory as a whole.
_PIECE = 1 << 24


def token_files(
    data_dir: str | Path, vocabulary_size: int | None = None, train_tokens: int | None = None
) -> TokenData:
    """Map files of 16-bit token ids into memory.

    All ids are read once to be checked; after that only what training draws is read.

    Args:
        data_dir: Folder with ``train.bin`` and ``val.bin``: unsigned 16-bit ids, little-endian,
            nothing else.
        vocabulary_size: Number of ids, 1 to 65,536. None takes ``vocab_size`` of ``meta.pkl``,
            where the folder has one, else 50,304.
        train_tokens: Keep only the first so many training tokens; None keeps all.

    Returns:
        Both parts as uint16, backed by the files; no test part. The vocabulary are the ids in
        decimal, for the files hold no text.

    Raises:
        DataError: A file is missing, empty, of odd length or holds an id beyond the vocabulary;
            ``meta.pkl`` is damaged or states no size from 1 to 65,536.
        ValueError: ``vocabulary_size`` is out of its range; ``train_tokens`` is below 1 or more
            than there are.
    """
    if vocabulary_size is not None and not 1 <= vocabulary_size <= _LARGEST_VOCABULARY:
        raise ValueError(
            f"`vocabulary_size` must lie in 1..{_LARGEST_VOCABULARY}, the ids that 16 bits hold; "
            f"got {vocabulary_size}. Give the tokenizer's size, or leave it out."
        )
    folder = existing_folder(data_dir, _ORIGIN)
    size, said_by = vocabulary_size, "vocabulary_size"
    if size is None:
        size, said_by = _vocabulary_size(folder)
    train, valid = (_map(folder / name) for name in ("train.bin", "val.bin"))
    for name, ids in (("train.bin", train), ("val.bin", valid)):
        _check_ids(folder / name, ids, size, said_by)
    total = len(train)
    if train_tokens is not None:
        if not 1 <= train_tokens <= total:
            raise ValueError(
                f"`train_tokens` must lie in 1..{total}, the length of train.bin; got "
                f"{train_tokens}. Leave it out to train on all."
            )
        train = train[:train_tokens]
    kept = f"{len(train):,}" + (f" of {total:,}" if len(train) < total else "")
    return TokenData(
        train=_tensor(train),
        valid=_tensor(valid),
        test=None,
        vocabulary=tuple(str(token) for token in range(size)),
        source=(
            f"token files: {kept} train + {len(valid):,} valid tokens, vocabulary {size:,} "
            f"(by {said_by}), files in {folder}"
        ),
    )


def _map(path: Path) -> npt.NDArray[np.uint16]:
    try:
        length = path.stat().st_size
        if length == 0 or length % 2:
            raise DataError(
                f"{path} must hold 2 bytes a token, and at least one token; got {length} bytes. "
                f"Get {_ORIGIN}."
            )
        # Copy on write: torch takes no array that can't be written; nobody writes it.
        return np.memmap(path, dtype="<u2", mode="c")
    except OSError as error:
        raise DataError(f"{path} must be a readable file; got: {error}. Get {_ORIGIN}.") from error


def _tensor(ids: npt.NDArray[np.uint16]) -> Tensor:
    return torch.from_numpy(ids)


def _check_ids(path: Path, ids: npt.NDArray[np.uint16], size: int, said_by: str) -> None:
    if size > np.iinfo(np.uint16).max:
        return
    for begin in range(0, len(ids), _PIECE):
        piece = ids[begin : begin + _PIECE]
        if int(piece.max()) >= size:
            place = int(np.argmax(piece >= size))
            raise DataError(
                f"{path} must hold ids 0..{size - 1}, by {said_by}; got {int(piece[place])} "
                f"at token {begin + place}. Give the tokenizer's size by "
                "--set vocabulary_size=N, or the files of this vocabulary."
            )


def _vocabulary_size(folder: Path) -> tuple[int, str]:
    path = folder / "meta.pkl"
    if not path.is_file():
        return _DEFAULT_VOCABULARY, "GPT-2"
    try:
        size = load_dictionary(read_bytes(path, _ORIGIN)).get("vocab_size")
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} must be a pickled dictionary of plain values; got: {error}. Get {_ORIGIN}."
        ) from error
    if type(size) is not int or not 1 <= size <= _LARGEST_VOCABULARY:
        raise DataError(
            f"{path} must state `vocab_size`, an integer from 1 to {_LARGEST_VOCABULARY}; got "
            f"{size!r}. Give --set vocabulary_size=N instead."
        )
    return size, "meta.pkl"
