"""Data sets from the files that people have, and the order in which training sees them."""

from rung.train.data.augment import center_window, random_crop, random_flip, random_window
from rung.train.data.batches import (
    bptt_batches,
    random_windows,
    repeated_batches,
    shuffled_batches,
)
from rung.train.data.cifar import cifar10, cifar100
from rung.train.data.embedded_digits import digits
from rung.train.data.files import DataError
from rung.train.data.glue import SentenceData, glue
from rung.train.data.idx import fashion_mnist
from rung.train.data.image_folder import image_folder
from rung.train.data.images import ImageData
from rung.train.data.plain_text import characters
from rung.train.data.token_files import token_files
from rung.train.data.tokens import TokenData
from rung.train.data.wikitext import wikitext2

__all__ = [
    "DataError",
    "ImageData",
    "SentenceData",
    "TokenData",
    "bptt_batches",
    "center_window",
    "characters",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "glue",
    "image_folder",
    "random_crop",
    "random_flip",
    "random_window",
    "random_windows",
    "repeated_batches",
    "shuffled_batches",
    "token_files",
    "wikitext2",
]
