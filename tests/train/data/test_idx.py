import gzip
import lzma
import struct
from pathlib import Path

import pytest
import torch

from rung.train.data import DataError, fashion_mnist

PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + content


def write_files(folder: Path, suffix: str = "") -> dict[str, bytes]:
    files = {
        "train-images-idx3-ubyte": idx((10, 4, 3), bytes(range(120))),
        "train-labels-idx1-ubyte": idx((10,), bytes(range(10))),
        "t10k-images-idx3-ubyte": idx((2, 4, 3), bytes(range(24))),
        "t10k-labels-idx1-ubyte": idx((2,), bytes([9, 0])),
    }
    for name, content in files.items():
        (folder / (name + suffix)).write_bytes(PACKERS[suffix](content))
    return files


@pytest.mark.parametrize("suffix", PACKERS)
def test_the_four_files_are_read_plain_or_compressed(tmp_path, suffix):
    write_files(tmp_path, suffix)
    data = fashion_mnist(str(tmp_path))
    assert torch.equal(data.train_images.flatten(), torch.arange(120, dtype=torch.uint8))
    assert data.train_images.shape == (10, 1, 4, 3)
    assert data.train_labels.tolist() == list(range(10))
    assert data.test_labels.tolist() == [9, 0]
    assert "10 train + 2 test images 4x3" in data.source
    assert str(tmp_path) in data.source


def test_files_of_other_counts_are_not_called_the_official_set(tmp_path):
    write_files(tmp_path)
    assert "not the official set" in fashion_mnist(tmp_path).source


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("train-images-idx3-ubyte", b"", "must not be empty; got 0 bytes"),
        ("train-images-idx3-ubyte", b"\x00\x00", "magic number 0x00000803; got 0x0000"),
        ("train-images-idx3-ubyte", b"\x00\x00\x08\x03abc", "header of 16 bytes; got a file of 7"),
        ("train-images-idx3-ubyte", idx((10,), bytes(10)), "0x00000803; got 0x00000801"),
        ("train-images-idx3-ubyte", idx((10, 4, 3), bytes(119)), "10 x 4 x 3 = 120 .*; got 119"),
        ("t10k-labels-idx1-ubyte", idx((2,), bytes(3)), "2 = 2 bytes after its header; got 3"),
        ("t10k-labels-idx1-ubyte", idx((3,), bytes(3)), "got 2 images and 3 labels"),
        ("t10k-labels-idx1-ubyte", idx((2,), bytes([1, 10])), r"labels 0\.\.9; got 10"),
    ],
)
def test_a_damaged_file_is_named_with_its_fault_and_source(tmp_path, name, content, text):
    write_files(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=text) as caught:
        fashion_mnist(tmp_path)
    assert name in str(caught.value)
    assert "dataset-fashion-mnist" in str(caught.value)


def test_files_without_images_are_refused(tmp_path):
    write_files(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx((0, 4, 3), b""))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx((0,), b""))
    with pytest.raises(DataError, match="at least 1; got 0 images and 0 labels"):
        fashion_mnist(tmp_path)


def test_images_of_two_sizes_are_refused(tmp_path):
    write_files(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx((2, 3, 4), bytes(24)))
    with pytest.raises(DataError, match=r"one size \(C, H, W\); got \(1, 4, 3\) and \(1, 3, 4\)"):
        fashion_mnist(tmp_path)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"plain text"])
def test_a_truncated_or_false_compressed_file_is_named(tmp_path, suffix, damage):
    write_files(tmp_path, suffix)
    path = tmp_path / f"train-images-idx3-ubyte{suffix}"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"ubyte{suffix} must be a readable, complete file"):
        fashion_mnist(tmp_path)


def test_a_gzip_file_with_a_wrong_byte_is_named(tmp_path):
    write_files(tmp_path, ".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"ubyte\.gz must be a readable, complete file"):
        fashion_mnist(tmp_path)


def test_a_missing_file_is_named_with_its_source(tmp_path):
    write_files(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"must hold t10k-labels-idx1-ubyte \(plain, .gz or .xz\)"):
        fashion_mnist(tmp_path)


def test_a_missing_folder_is_named_with_the_source(tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere: no such folder\. Get Fashion-MNIST from the Deb"
    ):
        fashion_mnist(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"1")
    with pytest.raises(DataError, match="x: a file"):
        fashion_mnist(tmp_path / "x")
