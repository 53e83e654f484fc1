"""What the first step of a small model waits for, with an empty cache of compiled loops and after.

    python benchmarks/first_step.py

CPU seconds of one thread in a process of its own: storing the weights (where they are codes),
forward and backward pass, and the optimizer's step, imports of numba and of torch's parts on the
way included; importing torch and Rung is not. Writes benchmarks/results/first_step.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rung.train.environment import environment

REPEATS = 5
CASES = {
    "8-bit Madam": "madam8",
    "LNS-Madam, 16 bits": "lns",
    "Madam, float32": "madam",
    "LMD": "lmd",
    "AdamW fused": "adamw",
}
CHILD = """
import sys, time, torch
torch.set_num_threads(1)
import rung
from rung.optim import LMD, BBitMadam, LNSMadam, Madam, split_parameters
kind = sys.argv[1]
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
x = torch.randn(4, 64)
times = [time.process_time()]
if kind in ("madam8", "lns"):
    rung.store_weights_(model, {"madam8": "ladder8", "lns": "lns16"}[kind])
times.append(time.process_time())
if kind == "adamw":
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
else:
    rule = {"madam8": BBitMadam, "lns": LNSMadam, "madam": Madam, "lmd": LMD}[kind]
    options = {"rounding": "stochastic"} if kind == "madam8" else {}
    optimizer = rule(split_parameters(model), **options)
times.append(time.process_time())
def closure():
    optimizer.zero_grad()
    loss = model(x).square().mean()
    loss.backward()
    times.append(time.process_time())
    return loss
optimizer.step(closure)
times.append(time.process_time())
print(*(b - a for a, b in zip(times, times[1:])))
"""
PARTS = ("store", "build", "forward_backward", "step")


def first_step(kind: str, cache: str) -> dict[str, float]:
    """CPU seconds by part, in a new process."""
    own = os.environ | {"NUMBA_CACHE_DIR": cache, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind], capture_output=True, text=True, check=True, env=own
    )
    seconds = [float(word) for word in done.stdout.split()]
    return dict(zip(PARTS, seconds, strict=True)) | {"total": sum(seconds)}


def measured(kind: str) -> dict[str, dict[str, float]]:
    """Medians with an empty cache, and with the one that the same step has filled."""
    cold, warm = [], []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(first_step(kind, cache))
            warm.append(first_step(kind, cache))
    return {
        name: {part: round(statistics.median(run[part] for run in runs), 3) for part in runs[0]}
        for name, runs in (("cold", cold), ("warm", warm))
    }


def main() -> None:
    """Measure every case and write the file."""
    rows = []
    for label, kind in CASES.items():
        rows.append({"label": label, **measured(kind)})
        print(label, rows[-1]["cold"], "then", rows[-1]["warm"]["total"], flush=True)
    result = {
        "benchmark": "first_step",
        "command": "python benchmarks/first_step.py",
        "must": 5.0,
        "repeats": REPEATS,
        "environment": environment(),
        "rows": rows,
    }
    target = Path(__file__).parent / "results" / "first_step.json"
    target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
