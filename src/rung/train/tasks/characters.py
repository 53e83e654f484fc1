"""Character-level language modelling in windows drawn at random."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rung.train.data import TokenData, random_windows
from rung.train.recipe_options import CharacterOptions
from rung.train.task import Evaluation, Metric, Streams, token_loss


class CharacterTask:
    """Random windows of a text; loss per character on the part kept for validation.

    Args:
        data: Characters as tokens.
        options: Batch size, context and steps an epoch.
        build: Makes the model from the size of the vocabulary; input (B, T), output (B, T, V).
    """

    def __init__(
        self, data: TokenData, options: CharacterOptions, build: Callable[[int], nn.Module]
    ) -> None:
        self.data = data
        self.options = options
        self.build = build
        self.metric = Metric(name="loss_per_character", split="valid", higher_is_better=False)
        shortest = min(len(data.train), len(data.valid))
        if shortest <= options.context:
            raise ValueError(
                "Training and validation text must each be longer than the context; got "
                f"{len(data.train)} and {len(data.valid)} characters and context="
                f"{options.context}. Use a smaller context or more text."
            )
        per_step = options.batch_size * options.context
        self.batches_per_epoch = options.steps_per_epoch or max(1, len(data.train) // per_step)
        self.source = data.source

    def model(self) -> nn.Module:
        """A freshly initialised model."""
        return self.build(len(self.data.vocabulary))

    def batches(self, streams: Streams, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Characters (B, T) and the characters after them (B, T)."""
        size, context = self.options.batch_size, self.options.context
        for _ in range(start, self.batches_per_epoch):
            yield random_windows(self.data.train, size, context, streams.draws)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy per character; outputs (B, T, V), targets (B, T)."""
        return token_loss(outputs, targets)

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Loss over the validation text, cut into contexts side by side; the rest is left out."""
        context, total, count = self.options.context, 0.0, 0
        windows = (len(self.data.valid) - 1) // context
        text = self.data.valid[: windows * context + 1].long()
        inputs, targets = text[:-1].view(windows, context), text[1:].view(windows, context)
        size = self.options.eval_batch_size
        for read, expected in zip(
            torch.split(inputs, size), torch.split(targets, size), strict=True
        ):
            loss = float(self.loss(model(read.to(device)), expected.to(device)))
            total += loss * expected.numel()
            count += expected.numel()
        return Evaluation(loss=total / count, metric=total / count)

    def probe(self) -> tuple[Tensor, Tensor]:
        """Fixed windows of the training text."""
        generator = torch.Generator().manual_seed(0)
        size, context = self.options.batch_size, self.options.context
        return random_windows(self.data.train, size, context, generator)
