"""Class-conditional generation of images, judged by a Frechet distance."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rung.train.data import ImageData, random_flip, repeated_batches, shuffled_batches
from rung.train.models.cgan import ConditionalGAN, pack
from rung.train.recipe_options import GANOptions
from rung.train.task import Evaluation, Metric, Streams
from rung.train.tasks.features import Features
from rung.train.tasks.frechet import Moments, frechet_distance, moments

_EVALUATION_SEED = 1802


class GANTask:
    """Real images in shuffled order beside noise; the distance of generated images to real ones.

    The training loss is the discriminator's hinge loss plus the generator's; see `ConditionalGAN`
    for which of the two moves what. Noise and wanted classes are drawn from the stream of
    augmentation, which checkpoints keep, so that a resumed run sees the same.

    An evaluation generates `eval_images` images, evenly over the classes, from noise that is the
    same every time. With a classifier they are compared with the test images; with Inception with
    all training images, as the FID of publications (on 50,000 generated images) is.

    Args:
        data: Images of 32 x 32 and their labels.
        options: Sizes.
        features: The space of the distance.
    """

    def __init__(self, data: ImageData, options: GANOptions, features: Features) -> None:
        self.data = data
        self.options = options
        self.features = features
        self.metric = Metric(name=features.metric, split="test", higher_is_better=False)
        available = len(data.train_labels)
        self.examples = min(available, options.train_examples or available)
        in_pass = -(-self.examples // options.batch_size)
        self.batches_per_epoch = options.steps_per_epoch or in_pass
        self.source = f"{data.source}; {features.metric} by {features.source}"
        if self.examples < available:
            self.source += f"; trains on the first {self.examples:,}"
        self._reference: Moments | None = None

    def model(self) -> nn.Module:
        """Freshly initialised generator and discriminator."""
        return ConditionalGAN(self.data.classes, self.options.noise, self.options.width)

    def batches(self, streams: Streams, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Real images, their classes, noise and wanted classes in one tensor; and the classes."""
        size, steps = self.options.batch_size, self.options.steps_per_epoch
        if steps is None:
            order = shuffled_batches(self.examples, size, streams.order, start)
        else:
            order = repeated_batches(self.examples, size, steps, streams.order, start)
        for index in order:
            images = self.data.train_images[index]
            if self.options.flip:
                images = random_flip(images, streams.draws)
            yield self._packed(images, self.data.train_labels[index], streams.draws)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum of the two losses; outputs (2,)."""
        return outputs.sum()

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Sum of the losses on test images, at most `eval_images`; distance of generated ones.

        Raises:
            TypeError: The model is another one than `model` makes.
        """
        if not isinstance(model, ConditionalGAN):
            raise TypeError(f"`model` must be a ConditionalGAN; got {type(model).__name__}.")
        draws = torch.Generator().manual_seed(_EVALUATION_SEED)
        loss, count = 0.0, min(len(self.data.test_labels), self.options.eval_images)
        for index in torch.split(torch.arange(count), self.options.eval_batch_size):
            labels = self.data.test_labels[index]
            batch, _ = self._packed(self.data.test_images[index], labels, draws)
            loss += float(model(batch.to(device)).sum()) * len(labels)
        found = self._moments(self._generated(model, device, draws), device)
        if self._reference is None:
            self._reference = self._moments(self._real(device), device)
        # Too large for a number is no distance; the loop ends the run, and says why.
        distance = frechet_distance(found, self._reference) if found.finite else float("inf")
        return Evaluation(loss=loss / count, metric=distance)

    def probe(self) -> tuple[Tensor, Tensor]:
        """The first training images with noise that is the same every time."""
        size = min(self.options.batch_size, self.examples)
        draws = torch.Generator().manual_seed(_EVALUATION_SEED)
        return self._packed(self.data.train_images[:size], self.data.train_labels[:size], draws)

    def _packed(
        self, images: Tensor, labels: Tensor, draws: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        noise = torch.randn(len(labels), self.options.noise, generator=draws)
        wanted = torch.randint(self.data.classes, (len(labels),), generator=draws)
        return pack(images.float() / 127.5 - 1, labels, noise, wanted), labels

    def _generated(
        self, model: ConditionalGAN, device: torch.device, draws: torch.Generator
    ) -> Iterator[Tensor]:
        """Images of bytes (N, 3, 32, 32), on the device."""
        wanted = torch.arange(self.options.eval_images) % self.data.classes
        for labels in torch.split(wanted, self.options.eval_batch_size):
            noise = torch.randn(len(labels), self.options.noise, generator=draws)
            images = model.generator(noise.to(device), labels.to(device))
            yield ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def _real(self, device: torch.device) -> Iterator[Tensor]:
        of_test = self.features.metric != "fid"
        images = self.data.test_images if of_test else self.data.train_images
        for part in torch.split(images, self.options.eval_batch_size):
            yield part.to(device)

    @torch.no_grad()
    def _moments(self, images: Iterator[Tensor], device: torch.device) -> Moments:
        self.features.network.to(device)
        return moments(torch.cat([self.features(part) for part in images]))
