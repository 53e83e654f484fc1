import gzip
import lzma
import platform
from pathlib import Path

import pytest
import torch

from rung.train.data import DataError, TokenData, characters, wikitext2

PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
TEXTS = {
    "train": " \n = A b = \n \n b c <unk> c \n",
    "valid": " \n c d \n",
    "test": "A new word",
}


def write_words(folder: Path, pattern: str = "wiki.{}.tokens", suffix: str = "") -> None:
    for part, text in TEXTS.items():
        (folder / (pattern.format(part) + suffix)).write_bytes(PACKERS[suffix](text.encode()))


def words(data: TokenData, part: torch.Tensor) -> str:
    return " ".join(data.vocabulary[index] for index in part.tolist())


@pytest.mark.parametrize("pattern", ["wiki.{}.tokens", "{}.txt"])
@pytest.mark.parametrize("suffix", PACKERS)
def test_every_line_ends_in_one_token_and_strange_words_are_unknown(tmp_path, pattern, suffix):
    write_words(tmp_path, pattern, suffix)
    data = wikitext2(tmp_path)
    assert words(data, data.train) == "<eos> = A b = <eos> <eos> b c <unk> c <eos>"
    assert words(data, data.valid) == "<eos> c <unk> <eos>"
    assert words(data, data.test) == "A <unk> <unk> <eos>"
    assert data.vocabulary == ("<eos>", "=", "A", "b", "c", "<unk>")
    assert data.unknown_fraction == 0.25


def test_the_unknown_word_is_in_every_vocabulary(tmp_path):
    write_words(tmp_path)
    (tmp_path / "wiki.train.tokens").write_text("a b\n")
    assert wikitext2(tmp_path).vocabulary == ("a", "b", "<eos>", "<unk>")


def test_fewer_training_tokens_keep_the_whole_vocabulary(tmp_path):
    write_words(tmp_path)
    whole, part = wikitext2(tmp_path), wikitext2(tmp_path, train_tokens=3)
    assert torch.equal(part.train, whole.train[:3])
    assert part.vocabulary == whole.vocabulary
    assert "3 of 12 train, 4 valid, 4 test tokens, vocabulary 6, 25.0% of valid" in part.source


@pytest.mark.parametrize("count", [0, 13])
def test_a_number_of_training_tokens_that_is_not_there_is_refused(tmp_path, count):
    write_words(tmp_path)
    with pytest.raises(ValueError, match=rf"`train_tokens` must lie in 1\.\.12.*got {count}"):
        wikitext2(tmp_path, train_tokens=count)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "must not be empty"),
        (b"abc \xff\xfe", "must be UTF-8 text; got byte 0xff at position 4"),
    ],
)
def test_a_damaged_text_is_named_with_its_fault_and_source(tmp_path, content, text):
    write_words(tmp_path)
    (tmp_path / "wiki.valid.tokens").write_bytes(content)
    with pytest.raises(DataError, match=rf"wiki\.valid\.tokens {text}.*WikiText-2"):
        wikitext2(tmp_path)


def test_a_missing_text_is_named_with_both_of_its_names(tmp_path):
    write_words(tmp_path)
    (tmp_path / "wiki.test.tokens").unlink()
    with pytest.raises(DataError, match=r"must hold wiki\.test\.tokens or test\.txt \(plain"):
        wikitext2(tmp_path)


def test_the_embedded_text_needs_no_file_and_names_its_python():
    data = characters()
    assert f"pydoc_data.topics of Python {platform.python_version()}" in data.source
    assert data.test is None
    assert data.unknown_fraction == 0
    assert len(data.train) > 300_000
    assert len(data.valid) == pytest.approx(len(data.train) / 9, abs=2)
    assert list(data.vocabulary) == sorted(set(data.vocabulary))


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("given", ["folder", "file", "name without suffix"])
def test_characters_of_a_file_decode_to_its_text(tmp_path, suffix, given):
    text = "Grüße, 世界 🌍!\r\nab"
    file = tmp_path / f"input.txt{suffix}"
    file.write_bytes(PACKERS[suffix](text.encode()))
    path = {"folder": tmp_path, "file": file, "name without suffix": tmp_path / "input.txt"}[given]
    data = characters(path, valid_fraction=0.25)
    letters = [data.vocabulary[index] for index in [*data.train.tolist(), *data.valid.tolist()]]
    assert "".join(letters) == text
    assert data.vocabulary == tuple(sorted(set(text)))
    assert len(data.valid) == round(len(text) * 0.25)
    assert str(file) in data.source


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(fraction):
    with pytest.raises(ValueError, match=f"must lie between 0 and 1; got {fraction}"):
        characters(valid_fraction=fraction)


def test_a_text_too_short_to_split_is_refused(tmp_path):
    (tmp_path / "input.txt").write_text("abcd")
    with pytest.raises(DataError, match=r"input\.txt must be long enough to split; got 4 char"):
        characters(tmp_path)


def test_a_missing_or_damaged_character_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"must hold input\.txt \(plain, .gz or .xz\)"):
        characters(tmp_path)
    with pytest.raises(DataError, match=r"must hold other\.txt"):
        characters(tmp_path / "other.txt")
    with pytest.raises(DataError, match=r"away: no such folder"):
        characters(tmp_path / "away" / "other.txt")
    (tmp_path / "input.txt").write_bytes(b"a\xffb")
    with pytest.raises(DataError, match=r"input\.txt must be UTF-8 text; got byte 0xff"):
        characters(tmp_path)
