"""Time of an LMD step against torch's AdamW(foreach=True), in one process, interleaved.

    python benchmarks/lmd_step.py

Two measurements on one thread, median CPU time: the optimizer alone (for LMD a draw and an update)
on 10^5, 10^6 and 10^7 weights; and a whole training step of the chars-gpt recipe's model, 32
windows of 128 made-up characters. Writes benchmarks/results/lmd_step.json.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from rung.optim import LMD, split_parameters
from rung.train.environment import environment
from rung.train.models import GPT

SIZES = (10**5, 10**6, 10**7)
ROUNDS = {10**5: 101, 10**6: 31, 10**7: 7}
CHARACTERS, WINDOW, BATCH, MODEL_ROUNDS = 96, 128, 32, 7
Step = Callable[[], object]
BASE = "AdamW foreach"


def optimizer_step(size: int, make: Callable[[nn.Parameter], torch.optim.Optimizer]) -> Step:
    """A step of an optimizer on weights of its own with a gradient that stays."""
    generator = torch.Generator().manual_seed(0)
    param = nn.Parameter(0.02 * torch.randn(size, generator=generator))
    grad = 1e-3 * torch.randn(size, generator=generator)
    param.grad = grad
    optimizer = make(param)
    return whole_step(optimizer, lambda: grad)


def whole_step(optimizer: torch.optim.Optimizer, loss_and_gradient: Callable[[], Tensor]) -> Step:
    """A training step in the form that the optimizer wants."""
    if not isinstance(optimizer, LMD):

        def plain() -> None:
            loss_and_gradient()
            optimizer.step()

        return plain

    return lambda: optimizer.step(loss_and_gradient)


def optimizers(size: int) -> dict[str, Step]:
    """Label -> a step of an optimizer alone."""
    makers: dict[str, Callable[[nn.Parameter], torch.optim.Optimizer]] = {
        BASE: lambda p: torch.optim.AdamW([p], foreach=True),
        "AdamW fused": lambda p: torch.optim.AdamW([p], fused=True),
        "LMD": lambda p: LMD([p]),
        "LMD, rms": lambda p: LMD([p], update="rms"),
        "LMD, no noise": lambda p: LMD([p], sigma=0.0),
        "LMD, exponential": lambda p: LMD([p], prior="exponential"),
        "LMD, bf16 state": lambda p: LMD([p], state="bf16"),
    }
    return {label: optimizer_step(size, make) for label, make in makers.items()}


def training_steps() -> dict[str, Step]:
    """Label -> a whole step of the recipe's model."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, WINDOW)
    characters, targets = (
        torch.randint(0, CHARACTERS, shape, generator=generator) for _ in range(2)
    )
    makers: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
        BASE: lambda m: torch.optim.AdamW(m.parameters(), foreach=True),
        "LMD": lambda m: LMD(split_parameters(m)),
    }
    steps = {}
    for label, make in makers.items():
        torch.manual_seed(0)
        model = GPT(CHARACTERS, context=WINDOW)
        optimizer = make(model)

        def gradient(
            model: nn.Module = model, optimizer: torch.optim.Optimizer = optimizer
        ) -> Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(characters).flatten(0, 1), targets.flatten())
            loss.backward()
            return loss

        steps[label] = whole_step(optimizer, gradient)
    return steps


def measure(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median CPU seconds of every step, taken in turns."""
    times: dict[str, list[float]] = {label: [] for label in steps}
    for round_ in range(rounds + 1):
        for label, step in steps.items():
            begin = time.process_time()
            step()
            if round_:  # the first round allocates and compiles
                times[label].append(time.process_time() - begin)
    return {label: statistics.median(values) for label, values in times.items()}


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    rows = []
    for size in SIZES:
        medians = measure(optimizers(size), ROUNDS[size])
        for label, value in medians.items():
            nanoseconds = round(1e9 * value / size, 2)
            ratio = round(value / medians[BASE], 2)
            rows.append({"weights": size, "label": label, "ns": nanoseconds, "ratio": ratio})
    medians = measure(training_steps(), MODEL_ROUNDS)
    whole = [
        {"label": label, "ms": round(1000 * value, 1), "ratio": round(value / medians[BASE], 3)}
        for label, value in medians.items()
    ]
    result = {
        "benchmark": "lmd_step",
        "clock": "CPU time of one thread, median; ns per weight, ms per training step",
        "command": "python " + " ".join(sys.argv),
        "seed": 0,
        "environment": environment(),
        "optimizer": rows,
        "training_step": whole,
    }
    target = Path(__file__).parent / "results" / "lmd_step.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    for row in (*rows, *whole):
        print(row)


if __name__ == "__main__":
    main()
