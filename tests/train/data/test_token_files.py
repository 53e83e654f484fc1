import pickle

import numpy as np
import pytest
import torch

from rung.train import get_recipe, with_settings
from rung.train.data import DataError, random_windows, token_files


def write(folder, train=(1, 2, 3, 4, 5, 65535), valid=(7, 8)):
    np.array(train, "<u2").tofile(folder / "train.bin")
    np.array(valid, "<u2").tofile(folder / "val.bin")


def test_ids_are_those_of_the_files_up_to_the_largest(tmp_path):
    write(tmp_path)
    data = token_files(tmp_path, 65536)
    assert data.train.tolist() == [1, 2, 3, 4, 5, 65535]
    assert data.valid.tolist() == [7, 8]
    assert data.test is None
    assert (len(data.vocabulary), data.vocabulary[65535]) == (65536, "65535")
    assert "6 train + 2 valid tokens, vocabulary 65,536 (by vocabulary_size)" in data.source


def test_bytes_are_read_little_endian(tmp_path):
    write(tmp_path)
    (tmp_path / "val.bin").write_bytes(bytes([1, 2]))
    assert token_files(tmp_path, 65536).valid.tolist() == [0x0201]


def test_windows_of_a_mapped_file_are_int64_and_follow_each_other(tmp_path):
    write(tmp_path, train=range(40_000, 40_100))
    data = token_files(tmp_path)
    read, expected = random_windows(data.train, 5, 8, torch.Generator().manual_seed(0))
    assert read.dtype == expected.dtype == torch.int64
    assert torch.equal(read + 1, expected)
    assert torch.equal(read[:, 1:], expected[:, :-1])
    assert 40_000 <= int(read.min()) <= int(expected.max()) < 40_100


def test_the_file_is_mapped_and_never_written(tmp_path):
    write(tmp_path)
    data = token_files(tmp_path, 65536)
    np.array([9], "<u2").tofile(tmp_path / "other")
    before = (tmp_path / "train.bin").read_bytes()
    data.train[0] = 9
    assert (tmp_path / "train.bin").read_bytes() == before


def test_the_size_of_the_vocabulary_is_given_or_in_meta_or_that_of_gpt2(tmp_path):
    write(tmp_path, train=range(60))
    assert len(token_files(tmp_path).vocabulary) == 50_304
    meta = {"vocab_size": 65, "itos": {0: "a"}, "stoi": {"a": 0}}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    assert len(token_files(tmp_path).vocabulary) == 65
    assert len(token_files(tmp_path, 70).vocabulary) == 70


@pytest.mark.parametrize("content", [b"", b"abc"])
def test_a_file_that_is_empty_or_of_odd_length_is_refused(tmp_path, content):
    write(tmp_path)
    (tmp_path / "val.bin").write_bytes(content)
    text = rf"val\.bin must hold 2 bytes a token.*; got {len(content)} bytes.*nanoGPT"
    with pytest.raises(DataError, match=text):
        token_files(tmp_path, 65536)


def test_an_id_beyond_the_vocabulary_is_named_with_its_place(tmp_path):
    write(tmp_path)
    text = r"train\.bin must hold ids 0\.\.50303, by GPT-2; got 65535 at token 5"
    with pytest.raises(DataError, match=text):
        token_files(tmp_path)
    write(tmp_path, train=(1, 2))
    with pytest.raises(DataError, match=r"val\.bin must hold ids 0\.\.7.*; got 8 at token 1"):
        token_files(tmp_path, 8)


def test_a_missing_file_or_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"train\.bin must be a readable file; got: .*No such"):
        token_files(tmp_path)
    with pytest.raises(DataError, match="data folder must exist"):
        token_files(tmp_path / "nowhere")


def test_a_meta_file_that_is_damaged_or_runs_code_is_refused(tmp_path):
    write(tmp_path)
    for content, text in (
        (b"nonsense", "pickled dictionary of plain values; got"),
        (pickle.dumps({"vocab_size": print}), "pickled dictionary of plain values; got.*print"),
        (pickle.dumps({"size": 3}), "must state `vocab_size`, an integer .*; got None"),
        (pickle.dumps({"vocab_size": 0}), "must state `vocab_size`, an integer .*; got 0"),
        (pickle.dumps({"vocab_size": 65537}), "integer from 1 to 65536; got 65537. Give --set"),
        (pickle.dumps({"vocab_size": 10**12}), "integer from 1 to 65536; got 1000000000000"),
    ):
        (tmp_path / "meta.pkl").write_bytes(content)
        with pytest.raises(DataError, match=text):
            token_files(tmp_path)


@pytest.mark.parametrize("count", [0, 7])
def test_a_number_of_training_tokens_that_is_not_there_is_refused(tmp_path, count):
    write(tmp_path)
    assert len(token_files(tmp_path, 65536, train_tokens=4).train) == 4
    with pytest.raises(ValueError, match=rf"`train_tokens` must lie in 1\.\.6.*got {count}"):
        token_files(tmp_path, 65536, train_tokens=count)


@pytest.mark.parametrize("size", [-1, 0, 65537, 10**12])
def test_a_vocabulary_that_16_bits_cant_name_is_refused_before_anything_is_read(tmp_path, size):
    text = rf"`vocabulary_size` must lie in 1\.\.65536.*; got {size}. Give the tokenizer's"
    with pytest.raises(ValueError, match=text):
        token_files(tmp_path / "nowhere", size)
    text = rf"`vocabulary_size` must be an integer in \[1, 65536\] or none; got {size}"
    with pytest.raises(ValueError, match=text):
        with_settings(get_recipe("tokens-gpt").configure("adamw"), [f"vocabulary_size={size}"])
