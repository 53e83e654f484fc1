"""Classification of sentences and pairs of sentences."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from rung.train.data import SentenceData, shuffled_batches
from rung.train.recipe_options import SentenceOptions
from rung.train.task import Evaluation, Metric, Streams, token_loss


class SentenceTask:
    """Sentences in shuffled order, padded to the longest of their batch; accuracy on the valid set.

    The loop knows one tensor of inputs; here it is (B, 3, T), int64: ids, mask and segments.

    Args:
        data: Sentences and labels.
        options: Batch size and number of examples.
        encode: From examples to (B, 3, T).
        build: Makes the model; input (B, 3, T), output (B, classes).
    """

    def __init__(
        self,
        data: SentenceData,
        options: SentenceOptions,
        encode: Callable[[Sequence[tuple[str, ...]]], Tensor],
        build: Callable[[], nn.Module],
    ) -> None:
        self.data = data
        self.options = options
        self.encode = encode
        self.build = build
        self.metric = Metric(name="accuracy", split="valid", higher_is_better=True)
        available = len(data.train)
        self.examples = min(available, options.train_examples or available)
        self.batches_per_epoch = -(-self.examples // options.batch_size)
        self.source = data.source
        if self.examples < available:
            self.source += f"; trains on the first {self.examples:,}"

    def model(self) -> nn.Module:
        """The checkpoint's model; what it lacks is freshly initialised."""
        return self.build()

    def batches(self, streams: Streams, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Encoded examples (B, 3, T) and labels (B,)."""
        for index in shuffled_batches(self.examples, self.options.batch_size, streams.order, start):
            yield self._train_batch(index)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy; outputs (B, classes), targets (B,)."""
        return token_loss(outputs, targets)

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Loss and accuracy over the validation set."""
        loss, right, count = 0.0, 0, len(self.data.valid)
        for begin in range(0, count, self.options.eval_batch_size):
            part = slice(begin, begin + self.options.eval_batch_size)
            targets = self.data.valid_labels[part].to(device)
            outputs = model(self.encode(self.data.valid[part]).to(device))
            loss += float(self.loss(outputs, targets)) * len(targets)
            right += int((outputs.argmax(-1) == targets).sum())
        return Evaluation(loss=loss / count, metric=right / count)

    def probe(self) -> tuple[Tensor, Tensor]:
        """The first training examples."""
        return self._train_batch(torch.arange(min(self.options.batch_size, self.examples)))

    def _train_batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        examples = [self.data.train[place] for place in index.tolist()]
        return self.encode(examples), self.data.train_labels[index]
