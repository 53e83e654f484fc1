"""Language modelling in windows drawn at random: characters, words or any tokens."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rung.train.data import TokenData, random_windows
from rung.train.recipe_options import WindowOptions
from rung.train.task import Evaluation, Metric, Streams, token_loss

# exp(709) is the largest that float64 holds; a perplexity must stay a number in JSON.
_LARGEST_LOG = 700.0


class WindowTask:
    """Random windows of a text; loss per token on the text kept for validation.

    Args:
        data: The text as tokens.
        options: Batch size, context and steps an epoch.
        build: Makes the model from the size of the vocabulary; input (B, T), output (B, T, V).
        unit: What a token is, for the metric and errors, e.g. ``"character"``.
        perplexity: Whether the metric is e to the loss, else the loss itself.
    """

    def __init__(
        self,
        data: TokenData,
        options: WindowOptions,
        build: Callable[[int], nn.Module],
        unit: str,
        *,
        perplexity: bool = False,
    ) -> None:
        self.data = data
        self.options = options
        self.build = build
        name = "perplexity" if perplexity else f"loss_per_{unit}"
        self.metric = Metric(name=name, split="valid", higher_is_better=False)
        self.valid = data.valid[: options.eval_tokens]
        shortest = min(len(data.train), len(self.valid))
        if shortest <= options.context:
            raise ValueError(
                "Training and validation text must each be longer than the context; got "
                f"{len(data.train)} and {len(self.valid)} {unit}s and context="
                f"{options.context}. Use a smaller context or more text."
            )
        per_step = options.batch_size * options.context
        self.batches_per_epoch = options.steps_per_epoch or max(1, len(data.train) // per_step)
        self.source = data.source
        if len(self.valid) < len(data.valid):
            self.source += f"; validates on the first {len(self.valid):,}"

    def model(self) -> nn.Module:
        """A freshly initialised model."""
        return self.build(len(self.data.vocabulary))

    def batches(self, streams: Streams, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Tokens (B, T) and the tokens after them (B, T)."""
        size, context = self.options.batch_size, self.options.context
        for _ in range(start, self.batches_per_epoch):
            yield random_windows(self.data.train, size, context, streams.draws)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy per token; outputs (B, T, V), targets (B, T)."""
        return token_loss(outputs, targets)

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Loss over the validation text, cut into contexts side by side; the rest is left out."""
        context, total, count = self.options.context, 0.0, 0
        windows = (len(self.valid) - 1) // context
        # A window's last target is the next one's first token.
        text = self.valid.unfold(0, context + 1, context)  # (M,) -> view (windows, T + 1)
        for begin in range(0, windows, self.options.eval_batch_size):
            part = text[begin : begin + self.options.eval_batch_size].long()
            expected = part[:, 1:].contiguous()
            outputs = model(part[:, :-1].contiguous().to(device))
            loss = float(self.loss(outputs, expected.to(device)))
            total += loss * expected.numel()
            count += expected.numel()
        mean = total / count
        if self.metric.name != "perplexity":
            return Evaluation(loss=mean, metric=mean)
        return Evaluation(loss=mean, metric=math.exp(min(mean, _LARGEST_LOG)))

    def probe(self) -> tuple[Tensor, Tensor]:
        """Fixed windows of the training text."""
        generator = torch.Generator().manual_seed(0)
        size, context = self.options.batch_size, self.options.context
        return random_windows(self.data.train, size, context, generator)
