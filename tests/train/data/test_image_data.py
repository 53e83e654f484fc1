import pytest
import torch

from rung.train.data import DataError, ImageData, digits


def image_data(**changes: object) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    parts: dict[str, object] = {
        "train_images": torch.randint(256, (20, 3, 4, 4), generator=generator).to(torch.uint8),
        "train_labels": torch.arange(20) % 5,
        "test_images": torch.zeros(5, 3, 4, 4, dtype=torch.uint8),
        "test_labels": torch.arange(5),
        "classes": 5,
        "source": "made by a test",
    }
    return ImageData(**(parts | changes))


def test_mean_and_std_are_those_of_each_channel_of_the_training_set():
    data = image_data()
    pixels = data.train_images.double()
    torch.testing.assert_close(data.mean, pixels.mean((0, 2, 3)).float())
    torch.testing.assert_close(data.std, pixels.std((0, 2, 3), correction=0).float())


def test_normalized_training_images_have_mean_zero_and_variance_one():
    data = image_data()
    result = data.normalized(data.train_images)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std((0, 2, 3), correction=0), torch.ones(3))


def test_a_constant_channel_normalizes_to_zero():
    data = image_data(train_images=torch.full((20, 3, 4, 4), 7, dtype=torch.uint8))
    assert torch.equal(data.normalized(data.train_images), torch.zeros(20, 3, 4, 4))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"train_images": torch.zeros(20, 3, 4, 4)}, "training images must be uint8 of shape"),
        ({"test_images": torch.zeros(5, 4, 4, dtype=torch.uint8)}, "test images must be uint8"),
        ({"test_images": torch.zeros(0, 3, 4, 4, dtype=torch.uint8)}, r"got .*\(0, 3, 4, 4\)"),
        ({"train_labels": torch.arange(19)}, "one int64 label an image; got 20 images"),
        ({"train_labels": torch.zeros(20)}, "one int64 label an image; got 20 images and .*float"),
        ({"classes": 4}, r"training labels must lie in 0\.\.3; got 0\.\.4"),
        ({"test_labels": -torch.arange(5)}, r"test labels must lie in 0\.\.4; got -4\.\.0"),
        (
            {"test_images": torch.zeros(5, 3, 4, 5, dtype=torch.uint8)},
            r"one size \(C, H, W\); got \(3, 4, 4\) and \(3, 4, 5\)",
        ),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(changes, text):
    with pytest.raises(DataError, match=text):
        image_data(**changes)


def test_digits_are_split_the_same_in_every_run_and_evenly_by_class():
    torch.manual_seed(1)
    first = digits()
    torch.manual_seed(2)
    again = digits()
    assert torch.equal(first.test_images, again.test_images)
    assert torch.equal(first.train_labels, again.train_labels)
    assert first.train_images.shape == (1437, 1, 8, 8)
    assert first.test_images.shape == (360, 1, 8, 8)
    assert torch.bincount(first.test_labels).tolist() == [36] * 4 + [37] + [36] * 3 + [35, 36]
    assert "1,437 train + 360 test" in first.source


def test_digits_use_the_whole_range_of_pixels():
    data = digits()
    assert data.train_images.dtype == torch.uint8
    assert (int(data.train_images.min()), int(data.train_images.max())) == (0, 255)
    assert len(data.train_images.unique()) == 17


def test_no_digit_is_in_both_parts():
    data = digits()
    train = {bytes(image.flatten().tolist()) for image in data.train_images}
    assert not any(bytes(image.flatten().tolist()) in train for image in data.test_images)


def test_digits_without_scikit_learn_name_the_pip_command(monkeypatch):
    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name="sklearn")

    monkeypatch.setattr("rung.extras.importlib.import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'rung\[train\]'"):
        digits()
