"""Time of one optimizer step against torch's fused AdamW, in one process, interleaved.

    python benchmarks/step.py

Median wall time on one thread over a 33,278 x 200 embedding's worth of weights (6.7 million); the
ratio is what counts on a shared machine. Writes benchmarks/results/step.json.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from rung.optim import BBitMadam, Madam
from rung.tensor import CodedTensor
from rung.train.environment import environment

SHAPE = (33_278, 200)
ROUNDS = 7


def contestants() -> dict[str, Callable[[], object]]:
    """Label -> a step on weights and gradients of its own."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(SHAPE, generator=generator)
    grad = 1e-3 * torch.randn(SHAPE, generator=generator)

    def floats() -> nn.Parameter:
        param = nn.Parameter(values.clone())
        param.grad = grad
        return param

    def codes(fmt: str) -> nn.Parameter:
        param = nn.Parameter(CodedTensor.from_float(values, fmt, 3.0, "seed"))
        param.grad = grad
        return param

    stored = codes("ladder8").detach()
    assert isinstance(stored, CodedTensor)
    return {
        "AdamW fused": torch.optim.AdamW([floats()], fused=True).step,
        "AdamW for-loop": torch.optim.AdamW([floats()], foreach=False).step,
        "Madam float32": Madam([floats()]).step,
        "Madam 12 bits, nearest": BBitMadam([codes("ladder12")]).step,
        "Madam 8 bits, stochastic": BBitMadam([codes("ladder8")], rounding="stochastic").step,
        "Madam 8 bits, stochastic, log8 state": BBitMadam(
            [codes("ladder8")], rounding="stochastic", state="log8"
        ).step,
        "decode 8 bits (no step)": stored.decode,
    }


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    steps = contestants()
    times: dict[str, list[float]] = {label: [] for label in steps}
    for round_ in range(ROUNDS + 1):
        for label, step in steps.items():
            begin = time.process_time()
            step()
            if round_:  # the first round allocates and compiles
                times[label].append(time.process_time() - begin)
    medians = {label: statistics.median(values) for label, values in times.items()}
    rows = [
        {"label": label, "ms": round(1000 * value, 2), "ratio": value / medians["AdamW fused"]}
        for label, value in medians.items()
    ]
    result = {
        "benchmark": "step",
        "weights": SHAPE[0] * SHAPE[1],
        "clock": "CPU time of one thread, median",
        "command": "python " + " ".join(sys.argv),
        "seed": 0,
        "environment": environment(),
        "rows": rows,
    }
    target = Path(__file__).parent / "results" / "step.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(f"{row['label']:40} {row['ms']:9.2f} ms  {row['ratio']:6.2f} x AdamW fused")


if __name__ == "__main__":
    main()
