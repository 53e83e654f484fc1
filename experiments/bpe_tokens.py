"""Train a byte-pair vocabulary on a text and write token ids as the recipe tokens-gpt reads them.

    python experiments/bpe_tokens.py TRAIN VALID OUT [--vocabulary 4096]

TRAIN and VALID are text files; the vocabulary is trained on TRAIN alone, on bytes, so that every
text has ids. Written are OUT/train.bin and OUT/val.bin (16-bit ids, little-endian), OUT/meta.pkl
with the size, and OUT/vocabulary.json. Needs tokenizers, which `rung[hf]` brings.
"""

import argparse
import pickle
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def trained(text: Path, size: int) -> Tokenizer:
    """A byte-level byte-pair tokenizer of so many tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train([str(text)], trainer)
    return tokenizer


def ids_of(tokenizer: Tokenizer, text: Path) -> np.ndarray:
    """Token ids of a whole text, line by line."""
    with text.open(encoding="utf-8", newline="") as lines:
        encoded = tokenizer.encode_batch(list(lines))
    return np.concatenate([np.array(part.ids, dtype="<u2") for part in encoded])


def main() -> None:
    """Train, encode, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("valid", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocabulary", type=int, default=4096)
    given = parser.parse_args()
    if not 256 <= given.vocabulary <= 2**16:
        parser.error(f"--vocabulary must be from 256 to 65,536; got {given.vocabulary}")
    given.out.mkdir(parents=True, exist_ok=True)
    tokenizer = trained(given.train, given.vocabulary)
    tokenizer.save(str(given.out / "vocabulary.json"))
    for name, text in (("train", given.train), ("val", given.valid)):
        ids = ids_of(tokenizer, text)
        (given.out / f"{name}.bin").write_bytes(ids.tobytes())
        print(f"wrote {len(ids):,} tokens of {text} to {given.out / name}.bin")
    meta = {"vocab_size": tokenizer.get_vocab_size()}
    (given.out / "meta.pkl").write_bytes(pickle.dumps(meta))


if __name__ == "__main__":
    main()
