"""The 1,797 handwritten digits that scikit-learn carries; needs no file."""

import numpy as np
import numpy.typing as npt
import torch

from rung.extras import require
from rung.train.data.images import ImageData

_TEST_IMAGES = 360
_SPLIT_SEED = 0


def digits() -> ImageData:
    """Return scikit-learn's embedded digits, split into 1,437 training and 360 test images.

    The split is stratified by class and the same in every run, whatever the run's seed.

    Returns:
        Images of shape (N, 1, 8, 8), grey levels 0..16 spread over 0..255; 10 classes.

    Raises:
        ImportError: scikit-learn is not installed; the text names the pip command.

    References:
        E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
        Repository, 1998 (its test set, as ``sklearn.datasets.load_digits`` carries it).
    """
    bunch = require("sklearn.datasets").load_digits()
    levels = np.asarray(bunch.images)
    labels = np.asarray(bunch.target, dtype=np.int64)
    pixels = np.rint(levels * (255 / 16)).astype(np.uint8)
    test = _stratified_test(labels)
    images = torch.from_numpy(pixels).unsqueeze(1)  # (N, 8, 8) -> (N, 1, 8, 8)
    targets = torch.from_numpy(labels)
    chosen = torch.from_numpy(test)
    return ImageData(
        train_images=images[~chosen],
        train_labels=targets[~chosen],
        test_images=images[chosen],
        test_labels=targets[chosen],
        classes=10,
        source=(
            f"scikit-learn digits: {int((~test).sum()):,} train + {int(test.sum()):,} test images "
            "8x8, embedded in scikit-learn, fixed stratified split"
        ),
    )


def _stratified_test(
    labels: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    # RandomState, not default_rng: NumPy promises that its stream never changes.
    shuffled = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Equal steps through the images sorted by class take the same share of every class.
    steps = (np.arange(_TEST_IMAGES) + 0.5) * len(labels) / _TEST_IMAGES
    test = np.zeros(len(labels), dtype=np.bool_)
    test[by_class[steps.astype(np.int64)]] = True
    return test
