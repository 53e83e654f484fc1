"""Whole training steps of the arena's models (`rung reproduce one-byte`): one byte a weight."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rung.bench.measure import Step
from rung.bench.row import Case, TimedRow
from rung.bench.setting import Setting
from rung.optim import BBitMadam, SignedMadam, split_parameters
from rung.tensor import store_weights_
from rung.train.models import GPT, ViT, resnet18


@dataclass(frozen=True, slots=True)
class _Task:
    """A model of the arena and a batch of its shape; made-up numbers, for time asks no more.

    Attributes:
        title: In words.
        model: Builds it; tiny if told so.
        inputs: Shape of a batch, and of a tiny one.
        classes: Of tokens or images.
        tokens: Whether inputs are tokens.
        bfloat16: Whether the arena computes in it.
    """

    title: str
    model: Callable[[bool], nn.Module]
    inputs: tuple[tuple[int, ...], tuple[int, ...]]
    classes: int
    tokens: bool = False
    bfloat16: bool = False

    def batch(self, setting: Setting) -> tuple[Tensor, Tensor]:
        """Inputs and targets."""
        shape = self.inputs[setting.quick]
        if self.tokens:
            drawn = torch.randint(self.classes, shape, generator=setting.generator())
            return drawn, drawn.roll(1, 1)
        targets = torch.randint(self.classes, shape[:1], generator=setting.generator())
        return setting.normal(*shape), targets


def _gpt(classes: int, layers: int, width: int, heads: int) -> Callable[[bool], nn.Module]:
    def build(tiny: bool) -> nn.Module:
        if tiny:
            return GPT(classes, layers=1, width=16, heads=2, context=8)
        return GPT(classes, layers=layers, width=width, heads=heads, context=64)

    return build


def _vit(tiny: bool) -> nn.Module:
    size = {"layers": 1, "width": 16, "heads": 2} if tiny else {}
    return ViT.preset("vit_digits", 10, image_size=8, patch=2, channels=1, **size)


_TASKS = {
    "gpt-characters": _Task(
        "GPT, 4 layers of width 128", _gpt(103, 4, 128, 4), ((8, 64), (2, 8)), 103, tokens=True
    ),
    "gpt-tokens": _Task(
        "GPT, 6 layers of width 256, 4,096 tokens, bfloat16",
        _gpt(4096, 6, 256, 8),
        ((8, 64), (2, 8)),
        4096,
        tokens=True,
        bfloat16=True,
    ),
    "vit-digits": _Task("ViT, 4 layers of width 64", _vit, ((32, 1, 8, 8), (2, 1, 8, 8)), 10),
    "resnet18": _Task(
        "ResNet-18 of width 16, bfloat16",
        lambda tiny: resnet18(10, width=4 if tiny else 16),
        ((128, 3, 32, 32), (2, 3, 32, 32)),
        10,
        bfloat16=True,
    ),
}


def _signed(model: nn.Module) -> torch.optim.Optimizer:
    store_weights_(model, "sinh8")
    return SignedMadam(split_parameters(model))


def _bbit(model: nn.Module) -> torch.optim.Optimizer:
    store_weights_(model, "ladder8")
    return BBitMadam(split_parameters(model), rounding="stochastic")


def _adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def _case(label: str, task: _Task, make: Callable[[nn.Module], torch.optim.Optimizer]) -> Case:
    """Forward pass, backward pass and update on one batch."""

    def build(setting: Setting) -> Step:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.seed)
            model = task.model(setting.quick)
        optimizer = make(model)
        inputs, targets = task.batch(setting)

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=task.bfloat16):
                outputs = model(inputs)
            loss = F.cross_entropy(outputs.flatten(0, -2).float(), targets.flatten())
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step

    return Case(label, build)


def one_byte_rows() -> list[TimedRow]:
    """A row for each task of the arena."""
    return [
        TimedRow(
            f"one-byte-{name}",
            f"Training step in one byte a weight, {task.title} / AdamW fused, float32",
            (
                _case("signed Madam, sinh8", task, _signed),
                _case("AdamW fused", task, _adamw),
                _case("8-bit Madam", task, _bbit),
            ),
            1.2,
            1.0,
        )
        for name, task in _TASKS.items()
    ]
