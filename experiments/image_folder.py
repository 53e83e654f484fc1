"""Write images of CIFAR-10 as JPEG files in ImageNet's layout, to run the loader of ImageNet.

    python experiments/image_folder.py CIFAR OUT [--train N] [--val N]

CIFAR is the folder of the python batches. Written are OUT/train/CLASS/*.jpg and
OUT/val/CLASS/*.jpg, the first N images of every class. They are real and small: what a network
learns from them says that reading, cropping, training and counting work, and nothing about
ImageNet. Needs Pillow.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from rung.train.data.cifar import cifar10


def write(images: torch.Tensor, labels: torch.Tensor, classes: int, each: int, out: Path) -> int:
    """The first images of every class, (n, 3, 32, 32) in uint8; how many were written."""
    count = 0
    for label in range(classes):
        folder = out / f"class_{label:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for place in torch.nonzero(labels == label).flatten()[:each].tolist():
            pixels = images[place].permute(1, 2, 0).contiguous().numpy()
            Image.fromarray(pixels).save(folder / f"{place:05d}.jpg", quality=95)
            count += 1
    return count


def main() -> None:
    """Read the batches, write the files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cifar", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=200, help="images of a class, to train on")
    parser.add_argument("--val", type=int, default=50, help="images of a class, to judge by")
    given = parser.parse_args()
    data = cifar10(given.cifar)
    parts = (
        ("train", data.train_images, data.train_labels, given.train),
        ("val", data.test_images, data.test_labels, given.val),
    )
    for part, images, labels, each in parts:
        count = write(images, labels, data.classes, each, given.out / part)
        print(f"wrote {count:,} images to {given.out / part}")


if __name__ == "__main__":
    main()
