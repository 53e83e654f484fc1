import sys

import numpy as np
import pytest
import torch

from rung.train.data import DataError, image_folder

pil = pytest.importorskip("PIL.Image")


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pil.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path, **options)


def plain(level, height=6, width=6):
    return np.full((height, width, 3), level)


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate(("b", "a")):
        save(tmp_path / "train" / name / "2.png", plain(10 * index))
        save(tmp_path / "train" / name / "deep" / "1.PNG", plain(10 * index + 1))
        save(tmp_path / "val" / name / "x.png", plain(10 * index + 2))
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "a" / ".hidden.png").write_text("no image")
    (tmp_path / "train" / ".cache").mkdir()
    return tmp_path


def test_classes_and_images_come_in_the_order_of_their_names(folder):
    data = image_folder(folder, 4)
    assert data.classes == 2
    assert data.train_labels.tolist() == [0, 0, 1, 1]
    assert data.train_images[:, 0, 0, 0].tolist() == [10, 11, 0, 1]
    assert data.test_labels.tolist() == [0, 1]
    assert data.test_images[:, 2, 3, 3].tolist() == [12, 2]
    assert data.train_images.shape == (4, 3, 4, 4)
    assert "4 train + 2 test (val) of 2 classes, 4x4" in data.source


@pytest.mark.parametrize("shape", [(4, 8), (8, 4)])
def test_the_square_in_the_middle_is_kept(folder, shape):
    pixels = np.zeros((*shape, 3))
    middle = tuple(slice((side - 4) // 2, (side + 4) // 2) for side in shape)
    pixels[middle] = 200
    save(folder / "train" / "a" / "2.png", pixels)
    assert (image_folder(folder, 4).train_images[0] == 200).all()


def test_the_shorter_side_is_resized_whatever_the_shape(folder):
    for height, width in ((3, 50), (50, 3), (7, 5), (1, 1)):
        save(folder / "train" / "a" / "2.png", plain(77, height, width))
        assert (image_folder(folder, 4).train_images[0] == 77).all()


def test_grey_palette_and_transparent_images_become_rgb(folder):
    path = folder / "train" / "a" / "2.png"
    for mode in ("L", "P", "RGBA", "1"):
        pil.fromarray(plain(255).astype(np.uint8)).convert(mode).save(path)
        assert (image_folder(folder, 4).train_images[0] == 255).all()


@pytest.mark.parametrize(("suffix", "order"), [("png", "<"), ("tif", "<"), ("tif", ">")])
def test_of_16_bits_of_grey_the_upper_8_are_kept(folder, suffix, order):
    (folder / "train" / "a" / "2.png").unlink()
    path = folder / "train" / "a" / f"2.{suffix}"
    levels = np.array([[0, 255, 256, 32768], [65279, 65280, 65535, 128]] * 2, f"{order}u2")
    mode = "I;16" if order == "<" else "I;16B"
    pil.frombytes(mode, (4, 4), levels.tobytes()).save(path)
    with pil.open(path) as image:
        assert image.mode == mode
    found = image_folder(folder, 4).train_images[0]
    assert found[0, :2].tolist() == [[0, 0, 1, 128], [254, 255, 255, 0]]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_grey_is_refused_by_name(folder, mode):
    pil.new(mode, (4, 4), 3).save(folder / "train" / "a" / "2.tif")
    text = rf"a/2\.tif must have 8 or 16 bits a channel; got Pillow's mode '{mode}'.*8-bit grey"
    with pytest.raises(DataError, match=text):
        image_folder(folder, 4)


@pytest.mark.parametrize("shape", [(13, 31), (31, 13), (5, 8), (40, 9), (9, 9), (4, 6)])
def test_the_crop_is_that_of_the_image_resized_whole(folder, shape):
    # Smooth, so that what Pillow rounds between its two passes is no more than a level.
    down, across = np.mgrid[: shape[0], : shape[1]]
    pixels = np.stack([120 + 100 * np.sin(down / 3), 3 * across + down, 2 * down], axis=2)
    save(folder / "train" / "a" / "2.png", pixels)
    size = tuple(max(7, round(length * 7 / min(shape))) for length in shape[::-1])
    left, top = ((length - 7) // 2 for length in size)
    with pil.open(folder / "train" / "a" / "2.png") as image:
        whole = image.resize(size, pil.Resampling.BICUBIC).crop((left, top, left + 7, top + 7))
    found = image_folder(folder, 7).train_images[0].permute(1, 2, 0).int()
    assert int((found - torch.from_numpy(np.array(whole)).int()).abs().max()) <= 1


@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1)])
def test_an_extreme_shape_is_never_resized_whole(folder, shape, monkeypatch):
    save(folder / "train" / "a" / "2.png", plain(77, *shape))
    made = []
    resize = pil.Image.resize

    def note(image, size, *rest, **options):
        made.append(size)
        return resize(image, size, *rest, **options)

    monkeypatch.setattr(pil.Image, "resize", note)
    assert (image_folder(folder, 24).train_images[0] == 77).all()
    assert set(made) == {(24, 24)}


def test_an_image_is_turned_as_its_camera_says(folder):
    pixels = np.zeros((4, 4, 3))
    pixels[0] = 255
    exif = pil.Exif()
    exif[0x0112] = 3  # upside down
    save(folder / "train" / "a" / "2.png", pixels, exif=exif)
    image = image_folder(folder, 4).train_images[0, 0]
    assert image[3].min() == 255
    assert image[0].max() == 0


@pytest.mark.parametrize("name", ["test", "valid"])
def test_the_test_part_has_one_of_three_names(folder, name):
    (folder / "val").rename(folder / name)
    assert f"({name})" in image_folder(folder, 4).source


def test_reading_twice_gives_the_same(folder):
    first, second = image_folder(folder, 5), image_folder(folder, 5)
    assert torch.equal(first.train_images, second.train_images)


def test_a_class_may_lack_test_images_but_not_training_images(folder):
    for path in (folder / "val" / "a").iterdir():
        path.unlink()
    (folder / "val" / "a").rmdir()
    assert image_folder(folder, 4).test_labels.tolist() == [1]
    (folder / "train" / "c").mkdir()
    with pytest.raises(DataError, match="train/c must hold images of its class; got none"):
        image_folder(folder, 4)


def test_a_folder_without_parts_or_classes_is_refused(tmp_path, folder):
    with pytest.raises(DataError, match="must hold a folder train; got none"):
        image_folder(folder / "train", 4)
    (folder / "val").rename(folder / "old")
    with pytest.raises(DataError, match="must hold a folder val or test or valid; got none"):
        image_folder(folder, 4)
    (folder / "val").mkdir()
    with pytest.raises(DataError, match="val must hold a folder for every class; got no folder"):
        image_folder(folder, 4)


def test_a_strange_class_in_the_test_part_is_named(folder):
    save(folder / "val" / "zebra" / "x.png", plain(0))
    with pytest.raises(DataError, match="must have classes of .*train only; got zebra too"):
        image_folder(folder, 4)


@pytest.mark.parametrize("keep", [0, 40])
def test_a_damaged_image_is_named(folder, keep):
    path = folder / "train" / "b" / "2.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"b/2\.png must be an image that Pillow can decode; got: "):
        image_folder(folder, 4)


def test_images_that_need_too_much_memory_are_refused(folder):
    with pytest.raises(DataError, match="6 images of 1000x1000, which take 0.02 GiB"):
        image_folder(folder, 1000, memory_gib=0.01)


def test_a_missing_pillow_is_named_with_its_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image", raising=False)
    with pytest.raises(ImportError, match=r"needs Pillow.*pip install 'rung\[images\]'"):
        image_folder(folder, 4)
