"""The row of a whole training step: forward pass, backward pass and update of a recipe's model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from rung.bench.measure import Step
from rung.bench.row import Case, TimedRow
from rung.bench.setting import Setting
from rung.nn import convert_
from rung.train import get_recipe
from rung.train.layers import LayerOptions, policy

_TINY: dict[str, Any] = {"width": 16, "heads": 2, "layers": 1, "context": 8, "batch_size": 2}


def chars_gpt(format: str | None) -> Callable[[Setting], Step]:
    """A step of the recipe's model on its fixed batch, by AdamW fused.

    Args:
        format: In which its products are computed, weights, activations and both gradients; None
            for float32.
    """

    def build(setting: Setting) -> Step:
        recipe = get_recipe("chars-gpt")
        config = recipe.configure("adamw")
        if setting.quick:
            config = replace(config, options=replace(config.options, **_TINY))
        task = recipe.build(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.seed)
            model = task.model()
        if format is not None:
            convert_(model, policy(format, LayerOptions()))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        inputs, targets = task.probe()

        def step() -> None:
            optimizer.zero_grad()
            task.loss(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step

    return build


def training_rows() -> list[TimedRow]:
    """One row."""
    return [
        TimedRow(
            "train-chars-gpt",
            "Training step of chars-gpt, W, A, E, G in LNS8 / float32",
            (
                Case("LNS8 in all four places", chars_gpt("lns8")),
                Case("float32", chars_gpt(None)),
                Case("MXFP6 forward", chars_gpt("mxfp6_e3m2")),
            ),
            1.3,
            1.15,
        )
    ]
