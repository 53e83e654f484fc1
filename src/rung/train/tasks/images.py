"""Classification of images."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from rung.train.data import ImageData, repeated_batches, shuffled_batches
from rung.train.data.augment import center_window, random_crop, random_flip, random_window
from rung.train.recipe_options import ImageOptions
from rung.train.task import Evaluation, Metric, Streams, token_loss

_SHARE = 0.25  # of a GPU's free memory that images may take


class ImageTask:
    """Images in shuffled order, cropped and mirrored at random; accuracy or error on the test set.

    Args:
        data: Images and labels.
        options: Batch size and augmentation.
        build: Makes the model.
        metric: ``"accuracy"`` or ``"error"``: share of test images classified so.
        size: Side of the square that is cut out of the images, at random in training and from the
            middle elsewhere; None takes them whole.
    """

    def __init__(
        self,
        data: ImageData,
        options: ImageOptions,
        build: Callable[[], nn.Module],
        metric: str,
        size: int | None = None,
    ) -> None:
        self.data = data
        self.options = options
        self.build = build
        self.size = size
        self.metric = Metric(name=metric, split="test", higher_is_better=metric == "accuracy")
        available = len(data.train_labels)
        self.examples = min(available, options.train_examples or available)
        in_pass = -(-self.examples // options.batch_size)
        self.batches_per_epoch = options.steps_per_epoch or in_pass
        self.source = data.source
        if self.examples < available:
            self.source += f"; trains on the first {self.examples:,}"

    def model(self) -> nn.Module:
        """A freshly initialised model."""
        return self.build()

    def place(self, device: torch.device) -> None:
        """Move all images to a GPU that has room for them, where cutting them out is faster."""
        if device.type != "cuda":
            return
        names = ("train_images", "train_labels", "test_images", "test_labels")
        parts = {name: getattr(self.data, name) for name in names}
        free, _ = torch.cuda.mem_get_info(device)
        if sum(part.nbytes for part in parts.values()) < _SHARE * free:
            self.data = replace(self.data, **{n: part.to(device) for n, part in parts.items()})

    def batches(self, streams: Streams, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented images (B, C, H, W) float32 and labels (B,)."""
        for index in self._order(streams.order, start):
            images = self.data.train_images[index]
            if self.size is not None:
                images = random_window(images, self.size, streams.draws)
            if self.options.crop_padding:
                images = random_crop(images, self.options.crop_padding, streams.draws)
            if self.options.flip:
                images = random_flip(images, streams.draws)
            yield self._numbers(images), self.data.train_labels[index]

    def _order(self, generator: torch.Generator, start: int) -> Iterator[Tensor]:
        size, steps = self.options.batch_size, self.options.steps_per_epoch
        if steps is None:
            return shuffled_batches(self.examples, size, generator, start)
        return repeated_batches(self.examples, size, steps, generator, start)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy; outputs (B, classes), targets (B,)."""
        return token_loss(outputs, targets)

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Loss and metric over the test set."""
        loss, right, count = 0.0, 0, len(self.data.test_labels)
        size = self.options.eval_batch_size
        for index in torch.split(torch.arange(count), size):
            images, labels = self.data.test_images[index], self.data.test_labels[index]
            targets = labels.to(device)
            outputs = model(self.still(images).to(device))
            loss += float(self.loss(outputs, targets)) * len(labels)
            right += int((outputs.argmax(-1) == targets).sum())
        share = right / count
        return Evaluation(
            loss=loss / count, metric=share if self.metric.name == "accuracy" else 1 - share
        )

    def probe(self) -> tuple[Tensor, Tensor]:
        """The first training images."""
        size = min(self.options.batch_size, self.examples)
        return self.still(self.data.train_images[:size]), self.data.train_labels[:size]

    def still(self, images: Tensor) -> Tensor:
        """Images as the model takes them, without augmentation."""
        cut = images if self.size is None else center_window(images, self.size)
        return self._numbers(cut)

    def _numbers(self, images: Tensor) -> Tensor:
        normalized = self.data.normalized(images)
        if self.options.precision == "bf16":
            # Convolutions keep the layout that they get; this one is three times as fast in bf16.
            return normalized.contiguous(memory_format=torch.channels_last)
        return normalized
