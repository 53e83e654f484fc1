"""Time of a training step with all four quantizers against float32, in one process, interleaved.

    python benchmarks/lns_step.py

The WikiText-2 transformer (13.8 M weights at 33,278 words, windows of 35 in 20 columns) on made-up
words; median CPU time on one thread, forward and backward pass and update apart. Also the passes of
`LNS.quantize` alone. Writes benchmarks/results/lns_step.json.
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

import rung
from rung.formats import LNS
from rung.nn import Policy, convert_
from rung.optim import LNSMadam, Madam, split_parameters
from rung.train.environment import environment
from rung.train.models import WordTransformer

WORDS, WINDOW, COLUMNS = 33_278, 35, 20
ROUNDS = 7
PARTS = ("forward", "backward", "update")


def model(converted: bool, stored: bool) -> nn.Module:
    """A transformer of the recipe, computing in LNS8 or float32, weights in codes or floats."""
    torch.manual_seed(0)
    made = WordTransformer(WORDS)
    if stored:
        rung.store_weights_(made, "lns16")
    if converted:
        convert_(made, Policy())
    return made


def training_step(
    made: nn.Module, optimizer: torch.optim.Optimizer
) -> Callable[[Tensor, Tensor], list[float]]:
    """A step that returns the CPU seconds of its three parts."""

    def step(words: Tensor, targets: Tensor) -> list[float]:
        optimizer.zero_grad()
        marks = [time.process_time()]
        loss = functional.cross_entropy(made(words).flatten(0, 1), targets)
        marks.append(time.process_time())
        loss.backward()
        marks.append(time.process_time())
        optimizer.step()
        marks.append(time.process_time())
        return [end - begin for begin, end in zip(marks, marks[1:], strict=False)]

    return step


def contestants() -> dict[str, Callable[[Tensor, Tensor], list[float]]]:
    """Label -> a training step of a model of its own."""
    steps = {}
    for label, converted in (("float32", False), ("LNS8 W, A, E, G", True)):
        made = model(converted, stored=False)
        adamw = torch.optim.AdamW(made.parameters(), fused=True)
        steps[f"{label}, AdamW fused"] = training_step(made, adamw)
        made = model(converted, stored=False)
        madam = Madam(split_parameters(made))
        steps[f"{label}, Madam float32"] = training_step(made, madam)
    made = model(True, stored=True)
    steps["LNS8 W, A, E, G, LNS-Madam 16 bits"] = training_step(
        made, LNSMadam(split_parameters(made))
    )
    return steps


def quantizer_rows() -> list[dict[str, object]]:
    """CPU time of quantizing 4 M floats, against copying them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((4096, 1024), generator=generator)
    fmt = LNS(8, 8, zero=True)
    cases: dict[str, Callable[[], Tensor]] = {
        "copy": x.clone,
        "float8_e4m3 round trip": lambda: x.to(torch.float8_e4m3fn).to(torch.float32),
        "LNS8 by tensor": lambda: fmt.quantize(x),
        "LNS8 by row": lambda: fmt.quantize(x, axis=0),
        "LNS8 by blocks of 32": lambda: fmt.quantize(x, block=32),
        "LNS8 by tensor, stochastic": lambda: fmt.quantize(
            x, rounding="stochastic", generator=generator
        ),
    }
    rows = []
    for label, run in cases.items():
        run()
        times = []
        for _ in range(ROUNDS):
            begin = time.process_time()
            run()
            times.append(time.process_time() - begin)
        nanoseconds = 1e9 * statistics.median(times) / x.numel()
        rows.append({"label": label, "ns_per_element": round(nanoseconds, 3)})
    return rows


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    steps = contestants()
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, WORDS, (WINDOW, COLUMNS), generator=generator)
    targets = torch.randint(0, WORDS, (WINDOW * COLUMNS,), generator=generator)
    times: dict[str, list[list[float]]] = {label: [] for label in steps}
    for round_ in range(ROUNDS + 1):
        for label, step in steps.items():
            parts = step(words, targets)
            if round_:  # the first round allocates and compiles
                times[label].append(parts)
    rows = []
    for label, measured in times.items():
        parts = [statistics.median(column) for column in zip(*measured, strict=True)]
        total = statistics.median(map(sum, measured))
        row = {name: round(1000 * part, 1) for name, part in zip(PARTS, parts, strict=True)}
        rows.append({"label": label, **row, "total": round(1000 * total, 1)})
    result = {
        "benchmark": "lns_step",
        "clock": "CPU time of one thread in ms, median",
        "command": "python " + " ".join(sys.argv),
        "seed": 0,
        "environment": environment(),
        "rows": rows,
        "quantizers": quantizer_rows(),
    }
    target = Path(__file__).parent / "results" / "lns_step.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    for row in (*rows, *result["quantizers"]):
        print(row)


if __name__ == "__main__":
    main()
