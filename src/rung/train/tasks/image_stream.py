"""Classification of images that are decoded while training goes on."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from rung.train.data import repeated_batches, shuffled_batches
from rung.train.data.image_stream import CenterCrop, ImageFiles, RandomCrop, stream
from rung.train.recipe_options import ResNet50Options
from rung.train.task import Evaluation, Metric, Streams, token_loss


class ImageStreamTask:
    """Images in shuffled order, cropped and mirrored at random; top-1 error on the test set.

    Order and augmentation of an epoch are drawn from the order's stream at its begin: decoding runs
    some batches ahead of training, and a stream that it moved could not be resumed.

    Args:
        files: The images.
        options: Sizes and augmentation.
        build: Makes the model.
    """

    def __init__(
        self, files: ImageFiles, options: ResNet50Options, build: Callable[[], nn.Module]
    ) -> None:
        self.options = options
        self.build = build
        self.metric = Metric(name="error", split="test", higher_is_better=False)
        available = len(files.train)
        self.train = _evenly(files.train, options.train_examples)
        self.test = files.test
        in_pass = -(-len(self.train) // options.batch_size)
        self.batches_per_epoch = options.steps_per_epoch or in_pass
        self.source = files.source
        if len(self.train) < available:
            self.source += f"; trains on {len(self.train):,}"

    def model(self) -> nn.Module:
        """A freshly initialised model."""
        return self.build()

    def batches(self, streams: Streams, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images (B, 3, S, S) float32 and labels (B,)."""
        options = self.options
        key = int(torch.randint(2**62, (), generator=streams.order))
        crop = RandomCrop(options.image_size, options.least_area, options.flip, key)
        order = self._order(streams.order, start)
        places = (
            (index.tolist(), (start + number) * options.batch_size)
            for number, index in enumerate(order)
        )
        return stream(self.train, places, crop, options.image_size, options.workers)

    def _order(self, generator: torch.Generator, start: int) -> Iterator[Tensor]:
        size, steps = self.options.batch_size, self.options.steps_per_epoch
        if steps is None:
            return shuffled_batches(len(self.train), size, generator, start)
        return repeated_batches(len(self.train), size, steps, generator, start)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy; outputs (B, classes), targets (B,)."""
        return token_loss(outputs, targets)

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Loss and error over the test set."""
        loss, right, count = 0.0, 0, len(self.test)
        for images, labels in self._still(self.test, self.options.eval_batch_size):
            targets = labels.to(device)
            outputs = model(images.to(device))
            loss += float(self.loss(outputs, targets)) * len(labels)
            right += int((outputs.argmax(-1) == targets).sum())
        return Evaluation(loss=loss / count, metric=1 - right / count)

    def probe(self) -> tuple[Tensor, Tensor]:
        """Training images of all classes, the middle of each."""
        size = self.options.batch_size
        return next(self._still(_evenly(self.train, size), size))

    def _still(
        self, files: tuple[tuple[Path, int], ...], size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images without augmentation, in their order."""
        options = self.options
        # 256 pixels for a crop of 224, as published models are evaluated.
        resize = options.resize or round(options.image_size * 8 / 7)
        crop = CenterCrop(options.image_size, resize)
        places = torch.split(torch.arange(len(files)), size)
        batches = ((index.tolist(), int(index[0])) for index in places)
        return stream(files, batches, crop, options.image_size, options.workers)


def _evenly(files: tuple[tuple[Path, int], ...], count: int | None) -> tuple[tuple[Path, int], ...]:
    """At most so many files, evenly from the first class to the last."""
    if count is None or count >= len(files):
        return files
    return tuple(files[place * len(files) // count] for place in range(count))
