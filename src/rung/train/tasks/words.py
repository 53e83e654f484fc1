"""Word-level language modelling in contiguous windows, as PyTorch's word language model does it."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from rung.train.data import TokenData, bptt_batches
from rung.train.recipe_options import WordOptions
from rung.train.task import Evaluation, Metric, Streams, token_loss

# exp(709) is the largest that float64 holds; a perplexity must stay a number in JSON.
_LARGEST_LOG = 700.0


class WordTask:
    """Columns of running text, read window by window in their order; perplexity on the valid text.

    Args:
        data: Tokens.
        options: Batch size (columns) and window.
        build: Makes the model from the size of the vocabulary; input (T, B), output (T, B, V).
    """

    def __init__(
        self, data: TokenData, options: WordOptions, build: Callable[[int], nn.Module]
    ) -> None:
        self.data = data
        self.options = options
        self.build = build
        self.metric = Metric(name="perplexity", split="valid", higher_is_better=False)
        # Each column predicts all its tokens but the first.
        rows = len(data.train) // options.batch_size - 1
        self.batches_per_epoch = -(-rows // options.window)
        if self.batches_per_epoch < 1:
            raise ValueError(
                "The training text must hold at least two tokens per column; got "
                f"{len(data.train)} tokens and batch_size={options.batch_size}. "
                "Use a smaller batch_size or more text."
            )
        self.source = data.source
        if options.eval_tokens is not None and options.eval_tokens < len(data.valid):
            self.source += f"; validates on the first {options.eval_tokens:,} tokens"

    def model(self) -> nn.Module:
        """A freshly initialised model."""
        return self.build(len(self.data.vocabulary))

    def batches(self, streams: Streams, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Tokens (T, B) and the tokens after them (T * B,)."""
        return bptt_batches(self.data.train, self.options.batch_size, self.options.window, start)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy per token; outputs (T, B, V), targets (T * B,)."""
        return token_loss(outputs, targets)

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Loss and perplexity over the validation text."""
        total, count = 0.0, 0
        valid = self.data.valid[: self.options.eval_tokens]
        columns = min(self.options.eval_batch_size, max(1, len(valid) // 2))
        for inputs, targets in bptt_batches(valid, columns, self.options.window):
            total += float(self.loss(model(inputs.to(device)), targets.to(device))) * len(targets)
            count += len(targets)
        loss = total / count
        return Evaluation(loss=loss, metric=math.exp(min(loss, _LARGEST_LOG)))

    def probe(self) -> tuple[Tensor, Tensor]:
        """The first window."""
        return next(bptt_batches(self.data.train, self.options.batch_size, self.options.window))
