"""Turn CIFAR-10 in lossless mosaics into the official python batches, which the recipes read.

    python experiments/cifar10_layout.py MOSAICS OUT

MOSAICS holds train_1.webp to train_5.webp and test.webp, each 100 x 100 images of 32 x 32 pixels in
rows, and labels.npz with the arrays "train" and "test". Written is OUT/cifar-10-batches-py. Needs
Pillow. The order of the images is that of the mosaics, so official checksums don't match.
"""

import argparse
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
EACH = 10_000
GRID = 100
SIDE = 32


def rows(mosaic: Path) -> np.ndarray:
    """Images of a mosaic as the batches hold them: (10000, 3072), red, green and blue planes."""
    with Image.open(mosaic) as image:
        pixels = np.asarray(image.convert("RGB"))
    expected = (GRID * SIDE, GRID * SIDE, 3)
    if pixels.shape != expected:
        raise ValueError(f"{mosaic} must have shape {expected}; got {pixels.shape}.")
    # (row, y, column, x, channel) -> (row, column, channel, y, x)
    tiles = pixels.reshape(GRID, SIDE, GRID, SIDE, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(tiles).reshape(EACH, 3 * SIDE * SIDE)


def write(path: Path, content: dict[bytes, object]) -> None:
    """Pickle as the official files are: protocol 2, keys as bytes."""
    path.write_bytes(pickle.dumps(content, protocol=2))


def batch(name: str, part: str, data: np.ndarray, labels: np.ndarray) -> dict[bytes, object]:
    """One batch; file names are numbered, for the mosaics don't keep the original ones."""
    if len(labels) != len(data) or labels.max() >= len(CLASSES):
        raise ValueError(
            f"{part} must have {len(data)} labels below {len(CLASSES)}; got {len(labels)} up to "
            f"{labels.max()}."
        )
    files = [f"{part}_{place:05d}.png".encode() for place in range(len(data))]
    return {
        b"batch_label": name.encode(),
        b"labels": labels.tolist(),
        b"data": data,
        b"filenames": files,
    }


def main() -> None:
    """Read the mosaics, write the batches."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mosaics", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    folder = arguments.out / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.load(arguments.mosaics / "labels.npz")
    for index in range(1, 6):
        part, name = f"train_{index}", f"training batch {index} of 5"
        data = rows(arguments.mosaics / f"{part}.webp")
        own = labels["train"][(index - 1) * EACH : index * EACH]
        write(folder / f"data_batch_{index}", batch(name, part, data, own))
    data = rows(arguments.mosaics / "test.webp")
    content = batch("testing batch 1 of 1", "test", data, labels["test"])
    write(folder / "test_batch", content)
    meta = {
        b"num_cases_per_batch": EACH,
        b"label_names": [name.encode() for name in CLASSES],
        b"num_vis": 3 * SIDE * SIDE,
    }
    write(folder / "batches.meta", meta)
    print(f"wrote 60,000 images to {folder}")


if __name__ == "__main__":
    main()
