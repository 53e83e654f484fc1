import threading

import numpy as np
import pytest
import torch

from rung.train.data import DataError, image_folder
from rung.train.data.image_stream import CenterCrop, RandomCrop, image_files, stream

pil = pytest.importorskip("PIL.Image")


@pytest.fixture
def digits_folder(tmp_path):
    """scikit-learn's digits in ImageNet's layout, of several sizes and kinds of file."""
    found = pytest.importorskip("sklearn.datasets").load_digits()
    pixels = (found.images * (255 / 16)).astype(np.uint8)
    for index in range(60):
        part, suffix = "val" if index % 3 == 0 else "train", "jpg" if index % 2 else "png"
        folder = tmp_path / part / f"n{found.target[index] % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        image = pil.fromarray(pixels[index]).resize((20 + index % 7, 20 + index % 5))
        image.save(folder / f"{index:03d}.{suffix}")
    return tmp_path


def batches(count, size, start=0):
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).split(size)
    return [(index.tolist(), place * size) for place, index in enumerate(order)][start:]


def unnormalized(images):
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (images * std + mean) * 255


def test_files_and_classes_are_those_of_image_folder(digits_folder):
    files, data = image_files(digits_folder), image_folder(digits_folder, 8)
    assert files.classes == data.classes == 3
    assert [label for _, label in files.train] == data.train_labels.tolist()
    assert [label for _, label in files.test] == data.test_labels.tolist()
    assert files.source.startswith("images: 40 train + 20 test (val) of 3 classes, decoded while")


def test_nothing_depends_on_the_number_of_threads(digits_folder):
    files = image_files(digits_folder).train
    crop = RandomCrop(12, 0.08, True, key=7)
    one, many = (
        list(stream(files, batches(len(files), 7), crop, 12, workers)) for workers in (1, 5)
    )
    assert [len(labels) for _, labels in one] == [7, 7, 7, 7, 7, 5]
    for (x, labels), (y, others) in zip(one, many, strict=True):
        assert torch.equal(x, y)
        assert torch.equal(labels, others)
        assert (x.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_the_rest_of_an_epoch_is_that_of_the_whole(digits_folder):
    files = image_files(digits_folder).train
    crop = RandomCrop(12, 0.08, True, key=7)
    whole = list(stream(files, batches(len(files), 7), crop, 12, 2))
    for start in range(7):
        rest = list(stream(files, batches(len(files), 7, start), crop, 12, 2))
        for (x, labels), (y, others) in zip(rest, whole[start:], strict=True):
            assert torch.equal(x, y)
            assert torch.equal(labels, others)


def test_another_key_or_place_draws_another_crop(digits_folder):
    files = image_files(digits_folder).train

    def images(key, first):
        return next(stream(files, [([0, 1, 2], first)], RandomCrop(12, 0.08, True, key), 12, 1))[0]

    assert torch.equal(images(1, 0), images(1, 0))
    assert not torch.equal(images(1, 0), images(2, 0))
    assert not torch.equal(images(1, 0), images(1, 3))


def test_crops_cover_the_shares_and_shapes_that_they_may():
    crop = RandomCrop(8, 0.25, False, key=0)
    draws = np.random.default_rng(0)
    shares, ratios = [], []
    for _ in range(500):
        left, top, right, bottom = crop._box(300, 200, draws)
        assert 0 <= left < right <= 300
        assert 0 <= top < bottom <= 200
        shares.append((right - left) * (bottom - top) / 60_000)
        ratios.append((right - left) / (bottom - top))
    assert 0.24 < min(shares) < 0.3
    # No crop of 4:3 covers more of 3:2.
    assert 0.8 < max(shares) < 0.9
    assert 0.74 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.35


@pytest.mark.parametrize("size", [(1000, 1), (1, 1000), (1, 1), (3000, 20)])
def test_long_images_are_cropped_in_the_middle(size):
    image = pil.fromarray(np.full((size[1], size[0], 3), 90, dtype=np.uint8))
    for key in range(20):
        square = np.asarray(RandomCrop(8, 1.0, True, key)(image, 0))
        assert square.shape == (8, 8, 3)
        assert (square == 90).all()


def test_half_of_the_images_are_mirrored():
    # Left half black, right half white, cropped by next to nothing.
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:, 8:] = 255
    image = pil.fromarray(pixels)
    crop = RandomCrop(16, 1.0, True, key=3)
    mirrored = [np.asarray(crop(image, place))[0, 0, 0] > 127 for place in range(400)]
    assert 0.4 < np.mean(mirrored) < 0.6
    never = RandomCrop(16, 1.0, False, key=3)
    assert not any(np.asarray(never(image, place))[0, 0, 0] > 127 for place in range(50))


@pytest.mark.parametrize(("width", "height"), [(40, 30), (30, 40)])
def test_evaluation_sees_the_middle(width, height):
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows, columns, rows * 0], -1).astype(np.uint8)
    square = np.asarray(CenterCrop(15, 30)(pil.fromarray(pixels), 0)).astype(float)
    # 15 of 30 pixels of the shorter side are kept, one for one.
    middle = ((height - 1) / 2, (width - 1) / 2)
    assert square.shape == (15, 15, 3)
    np.testing.assert_allclose(square[..., 0].mean(), middle[0], atol=0.6)
    np.testing.assert_allclose(square[..., 1].mean(), middle[1], atol=0.6)
    np.testing.assert_allclose(np.diff(square[:, 0, 0]), 1, atol=1)


def test_pixels_are_shifted_and_scaled_by_imagenets_moments(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part / "a").mkdir(parents=True)
        pil.fromarray(np.full((9, 9, 3), 51, dtype=np.uint8)).save(tmp_path / part / "a" / "1.png")
    files = image_files(tmp_path).test
    images, labels = next(stream(files, [([0], 0)], CenterCrop(4, 4), 4, 1))
    torch.testing.assert_close(unnormalized(images), torch.full((1, 3, 4, 4), 51.0))
    assert labels.tolist() == [0]


def test_grey_palette_transparent_and_16_bit_images_become_rgb(digits_folder):
    path, _ = image_files(digits_folder).train[0]
    path.unlink()
    path = path.with_suffix(".png")
    for mode in ("L", "P", "RGBA", "1"):
        pil.fromarray(np.full((9, 9, 3), 255, dtype=np.uint8)).convert(mode).save(path)
        files = image_files(digits_folder).train
        images, _ = next(stream(files, [([0], 0)], CenterCrop(4, 4), 4, 1))
        assert torch.allclose(unnormalized(images), torch.tensor(255.0))


def test_a_damaged_image_is_named(digits_folder):
    files = image_files(digits_folder).train
    files[4][0].write_bytes(b"no image")
    found = stream(files, batches(len(files), 5), CenterCrop(8, 8), 8, 2)
    with pytest.raises(DataError, match=f"{files[4][0].name} must be an image that Pillow can dec"):
        list(found)


def test_a_stream_that_is_left_ends_its_threads(digits_folder):
    before = threading.active_count()
    files = image_files(digits_folder).train
    found = stream(files, batches(len(files), 5), CenterCrop(8, 8), 8, 3)
    next(found)
    assert threading.active_count() > before
    found.close()
    assert threading.active_count() == before


def test_folders_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(DataError, match="must hold a folder train; got none"):
        image_files(tmp_path)
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "val" / "b").mkdir(parents=True)
    with pytest.raises(DataError, match="must have classes of .*train only; got b too"):
        image_files(tmp_path)
    (tmp_path / "val" / "b").rename(tmp_path / "val" / "a")
    with pytest.raises(DataError, match="must hold images of its class; got none"):
        image_files(tmp_path)
