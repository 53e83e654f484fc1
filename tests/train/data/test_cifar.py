import gzip
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from rung.train.data import DataError, cifar10, cifar100

CIFAR10 = [f"data_batch_{index}" for index in range(1, 6)] + ["test_batch"]


def python2_pickle(images: np.ndarray, labels: list[int], key: bytes = b"labels") -> bytes:
    """The opcodes that Python 2 wrote: byte strings for text and content, GLOBAL for NumPy."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    content = images.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
        + (number(0) + b"\x85" + text(b"b") + b"tR")
        + (b"(" + number(1) + number(images.shape[0]) + number(images.shape[1]) + b"\x86")
        + (b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR")
        + (b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb")
        + (b"\x89T" + len(content).to_bytes(4, "little") + content + b"tb")
    )
    items = text(b"data") + array + text(key) + b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + items + b"u."


def pixels(seed: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(count, 3072), dtype=np.uint8)


def write_cifar10(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(CIFAR10):
        (folder / name).write_bytes(python2_pickle(pixels(seed), [seed, 9]))


def write_cifar100(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(["train", "test"]):
        content = python2_pickle(pixels(seed), [seed, 99], b"fine_labels")
        (folder / name).write_bytes(content)


def check_cifar10(data) -> None:
    expected = np.concatenate([pixels(seed) for seed in range(5)]).reshape(10, 3, 32, 32)
    assert np.array_equal(data.train_images.numpy(), expected)
    assert np.array_equal(data.test_images.numpy(), pixels(5).reshape(2, 3, 32, 32))
    assert data.train_labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert data.train_labels.dtype == torch.int64


def test_the_folder_or_its_parent_may_be_given(tmp_path):
    write_cifar10(tmp_path / "cifar-10-batches-py")
    check_cifar10(cifar10(tmp_path))
    check_cifar10(cifar10(str(tmp_path / "cifar-10-batches-py")))


def test_each_batch_may_be_compressed(tmp_path):
    write_cifar10(tmp_path)
    path = tmp_path / "data_batch_3"
    (tmp_path / "data_batch_3.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    check_cifar10(cifar10(tmp_path))


def test_the_official_archive_is_read_in_place(tmp_path):
    write_cifar10(tmp_path / "away" / "cifar-10-batches-py")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "away" / "cifar-10-batches-py", "cifar-10-batches-py")
    data = cifar10(tmp_path)
    check_cifar10(data)
    assert "cifar-10-python.tar.gz" in data.source
    assert not (tmp_path / "cifar-10-batches-py").exists()


def test_cifar100_has_fine_labels(tmp_path):
    write_cifar100(tmp_path / "cifar-100-python")
    data = cifar100(tmp_path)
    assert data.classes == 100
    assert data.train_labels.tolist() == [0, 99]
    assert np.array_equal(data.test_images.numpy(), pixels(1).reshape(2, 3, 32, 32))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("key", [str, str.encode])
def test_batches_pickled_anew_by_python_3_are_read(tmp_path, protocol, key):
    write_cifar10(tmp_path)
    batch = {key("data"): pixels(4), key("labels"): np.array([4, 9])}
    (tmp_path / "data_batch_5").write_bytes(pickle.dumps(batch, protocol=protocol))
    check_cifar10(cifar10(tmp_path))


def test_images_in_column_order_are_read_as_they_were(tmp_path):
    write_cifar10(tmp_path)
    batch = {"data": np.asfortranarray(pixels(4)), "labels": [4, 9]}
    (tmp_path / "data_batch_5").write_bytes(pickle.dumps(batch, protocol=4))
    check_cifar10(cifar10(tmp_path))


class Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("hostile-was-here"),))


def test_a_pickle_that_names_a_function_is_refused_and_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path)
    hostile = {"data": pixels(0), "labels": [0, 1], "more": Hostile()}
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(hostile))
    with pytest.raises(DataError, match="data_batch_2 must be .* it names .*only NumPy arrays"):
        cifar10(tmp_path)
    assert not (tmp_path / "hostile-was-here").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "it names os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "it names .*eval"),
        (b"no pickle at all", "must be a pickled dictionary"),
        (python2_pickle(pixels(0), [0, 1])[:-40], "must be a pickled dictionary"),
        (pickle.dumps([1, 2]), "a list instead of a dictionary"),
        (pickle.dumps({"data": np.array([None])}), "an array of type 'O8'"),
        (b"c_codecs\nencode\n(Va\nVrot13\ntR.", "text encoded as 'rot13'"),
        (python2_pickle(pixels(0)[:, :-1], [0, 1]), r"\(N, 3072\); got \(2, 3071\)"),
        (python2_pickle(pixels(0), [0]), "got 2 images and 1 labels"),
        (python2_pickle(pixels(0), [0, 10]), r"integers 0\.\.9; got \[0, 10\]"),
        (pickle.dumps({"data": pixels(0), "labels": "ab"}), r"integers 0\.\.9; got 'ab'"),
        (pickle.dumps({"data": pixels(0), "labels": [2**80] * 9}), r"got \[12089258.*\.\.\."),
        (pickle.dumps({"data": [1], "labels": [1]}), r"uint8 of shape \(N, 3072\); got list"),
        (pickle.dumps({"data": pixels(0, 0), "labels": []}), "at least 1; got 0 images"),
        (python2_pickle(pixels(0), [0, 1], b"other"), r"'data' and 'labels'; got .*'other'"),
        (b"", "must not be empty"),
    ],
)
def test_a_damaged_or_hostile_batch_is_named_with_its_fault_and_source(tmp_path, content, text):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError, match=text) as caught:
        cifar10(tmp_path)
    assert "data_batch_2" in str(caught.value)
    assert "www.cs.toronto.edu/~kriz/cifar.html" in str(caught.value)


def test_an_array_whose_content_denies_its_shape_is_refused(tmp_path):
    write_cifar10(tmp_path)
    right = python2_pickle(pixels(0), [0, 1])
    two_rows, nine_rows = (b"J" + bytes([n, 0, 0, 0]) + b"J\x00\x0c" for n in (2, 9))
    (tmp_path / "data_batch_1").write_bytes(right.replace(two_rows, nine_rows))
    with pytest.raises(DataError, match=r"6144 numbers for an array of shape \(9, 3072\)"):
        cifar10(tmp_path)


def test_a_missing_batch_is_named(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(DataError, match=r"must hold data_batch_4 \(plain, .gz or .xz\)"):
        cifar10(tmp_path)


def test_a_folder_without_any_of_the_layouts_is_named(tmp_path):
    with pytest.raises(DataError, match=r"data_batch_1, .*cifar-10-python\.tar\.gz; got none"):
        cifar10(tmp_path)


def test_a_truncated_archive_is_named(tmp_path):
    write_cifar10(tmp_path / "away")
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "away", "cifar-10-batches-py")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"must be a complete \.tar\.gz archive"):
        cifar10(tmp_path)


def test_an_archive_without_a_batch_is_named(tmp_path):
    write_cifar10(tmp_path / "away")
    (tmp_path / "away" / "test_batch").unlink()
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "away", "cifar-10-batches-py")
    with pytest.raises(DataError, match="must hold cifar-10-batches-py/test_batch; got an archive"):
        cifar10(tmp_path)
