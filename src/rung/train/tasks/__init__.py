"""The kinds of task that recipes are made of."""

from rung.train.tasks.gan import GANTask
from rung.train.tasks.image_stream import ImageStreamTask
from rung.train.tasks.images import ImageTask
from rung.train.tasks.sentences import SentenceTask
from rung.train.tasks.windows import WindowTask
from rung.train.tasks.words import WordTask

__all__ = ["GANTask", "ImageStreamTask", "ImageTask", "SentenceTask", "WindowTask", "WordTask"]
