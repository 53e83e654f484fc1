import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rung.train.data import center_window, random_crop, random_flip, random_window

seeds = st.integers(0, 2**31)
sizes = st.integers(1, 5)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distinct_pixels(n: int, c: int, h: int, w: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(1, n * c * h * w + 1).view(n, c, h, w).to(dtype)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 3), sizes, sizes, st.integers(0, 3), seeds)
def test_a_crop_is_one_window_of_the_padded_image(n, c, h, w, padding, seed):
    images = distinct_pixels(n, c, h, w, torch.float32)
    cropped = random_crop(images, padding, seeded(seed))
    assert cropped.shape == images.shape
    padded = F.pad(images, (padding,) * 4)
    for before, after in zip(padded, cropped, strict=True):
        windows = [
            before[:, top : top + h, left : left + w]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        ]
        assert any(torch.equal(after, window) for window in windows)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 3), sizes, sizes, seeds)
def test_a_flip_gives_each_image_or_its_mirror_image(n, c, h, w, seed):
    images = distinct_pixels(n, c, h, w, torch.float32)
    flipped = random_flip(images, seeded(seed))
    for before, after in zip(images, flipped, strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(-1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_augmentation_keeps_shape_and_dtype(dtype):
    images = distinct_pixels(4, 3, 4, 5, dtype)
    cropped, flipped = random_crop(images, 2, seeded(0)), random_flip(images, seeded(0))
    assert cropped.shape == flipped.shape == images.shape
    assert cropped.dtype == flipped.dtype == dtype


def test_each_image_gets_its_own_offset_and_every_offset_occurs():
    image = distinct_pixels(1, 1, 3, 3, torch.float32)
    cropped = random_crop(image.expand(400, -1, -1, -1), 1, seeded(1))
    assert len({tuple(one.flatten().tolist()) for one in cropped}) == 9


def test_about_half_of_the_images_are_mirrored():
    images = torch.tensor([0.0, 1.0]).expand(2000, 1, 1, 2)
    mirrored = random_flip(images, seeded(2))[:, 0, 0, 0].sum()
    assert 900 < mirrored < 1100


def test_no_padding_leaves_images_as_they_are():
    images = distinct_pixels(3, 1, 4, 4, torch.uint8)
    assert torch.equal(random_crop(images, 0, seeded(3)), images)


def test_the_generator_alone_decides_the_draw():
    images = distinct_pixels(16, 1, 4, 4, torch.float32)
    first, again = random_crop(images, 2, seeded(4)), random_crop(images, 2, seeded(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, random_crop(images, 2, seeded(5)))


def test_images_without_four_dimensions_are_refused():
    image = torch.zeros(3, 4, 4)
    with pytest.raises(ValueError, match=r"shape \(N, C, H, W\); got \(3, 4, 4\)"):
        random_crop(image, 1, seeded(0))
    with pytest.raises(ValueError, match=r"shape \(N, C, H, W\); got \(3, 4, 4\)"):
        random_flip(image, seeded(0))


def test_a_negative_padding_is_refused():
    with pytest.raises(ValueError, match="`padding` must not be negative; got -1"):
        random_crop(torch.zeros(1, 1, 4, 4), -1, seeded(0))


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 3), sizes, sizes, st.data(), seeds)
def test_a_random_window_is_one_of_the_image_and_the_central_one_its_middle(n, c, h, w, data, seed):
    size = data.draw(st.integers(1, min(h, w)))
    images = distinct_pixels(n, c, h, w, torch.uint8)
    cut = random_window(images, size, seeded(seed))
    assert cut.shape == (n, c, size, size)
    assert cut.dtype == images.dtype
    for before, after in zip(images, cut, strict=True):
        windows = [
            before[:, top : top + size, left : left + size]
            for top in range(h - size + 1)
            for left in range(w - size + 1)
        ]
        assert any(torch.equal(after, window) for window in windows)
    top, left = (h - size) // 2, (w - size) // 2
    middle = images[:, :, top : top + size, left : left + size]
    assert torch.equal(center_window(images, size), middle)


def test_every_window_is_drawn_and_a_seed_draws_the_same():
    images = distinct_pixels(1, 1, 3, 4, torch.float32).expand(300, -1, -1, -1)
    cut = random_window(images, 2, seeded(0))
    assert len(cut[:, 0, 0, 0].unique()) == 6
    assert torch.equal(cut, random_window(images, 2, seeded(0)))


def test_a_window_that_does_not_fit_is_refused():
    images = torch.zeros(2, 1, 3, 4)
    for size in (0, 4):
        with pytest.raises(ValueError, match=rf"`size` must lie in 1\.\.3.*got {size}"):
            random_window(images, size, seeded(0))
        with pytest.raises(ValueError, match=rf"`size` must lie in 1\.\.3.*got {size}"):
            center_window(images, size)
    with pytest.raises(ValueError, match=r"`images` must have shape \(N, C, H, W\)"):
        center_window(images[0], 2)
