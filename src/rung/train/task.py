"""What a recipe brings to the loop: data, model, loss and metric."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from rung.train.config import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """What a run is judged by."""

    name: str
    """E.g. ``accuracy``."""
    split: str
    """Part of the data that it is measured on: ``test`` or ``valid``."""
    higher_is_better: bool
    """Direction."""

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than`; anything beats None."""
        return than is None or (value > than if self.higher_is_better else value < than)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Result of one pass over the evaluation data."""

    loss: float
    """Mean loss per target, nats."""
    metric: float
    """Value of the task's metric."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The generators that training data draws from; both on the CPU."""

    order: torch.Generator
    """Order of the examples; drawn from once an epoch."""
    draws: torch.Generator
    """Augmentation and window positions; drawn from for every batch."""


class Task(Protocol):
    """Data, model, loss and metric of one recipe."""

    source: str
    """One line: which data, how many examples, from where."""
    metric: Metric
    """What evaluations report."""
    batches_per_epoch: int
    """Training steps an epoch."""

    def model(self) -> nn.Module:
        """A freshly initialised float model, from torch's global generator."""

    def batches(self, streams: Streams, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of one epoch, from batch number `start` on, on the CPU."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss per target, nats, differentiable."""

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Evaluate a model that is in evaluation mode."""

    def probe(self) -> tuple[Tensor, Tensor]:
        """One fixed batch of training data without augmentation, for diagnostics."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One entry of ``rung recipes``."""

    name: str
    """What ``rung train`` takes."""
    model: str
    """The model in a few words."""
    data: str
    """The data in a few words."""
    metric: str
    """The metric in a few words."""
    configure: Callable[[str], Config]
    """From the name of an optimizer to a complete configuration."""
    build: Callable[[Config], Task]
    """From a configuration to data and model; reads the data."""


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy in nats; outputs (..., classes), targets any shape of as many indices."""
    return functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1))
