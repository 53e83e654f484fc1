"""Error feedback: what a move lost to rounding is kept, and the passes see eight bits all the same.

    python experiments/error_feedback.py

Weights in 8-bit codes and four bits of what their last move lost are the same as weights in 12-bit
codes of which the passes see the nearest 8-bit value: the two ladders end at the same theta. So
this trains `sinh12` with its table of values replaced by that of `sinh8`, moves rounded to nearest
(the residual's usual form) or stochastically, beside plain `sinh8` and `sinh12`. Two of the
arena's tasks, at seeds that the arena doesn't judge by. About 25 minutes of a core.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from frozen_signs import TASKS, config_of

import rung.kernels.cpu.sinh as cpu
import rung.kernels.sinh as sinh
from rung.train.environment import environment
from rung.train.loop import run

ROOT = Path(__file__).resolve().parent.parent
STORED, SEEN = 12, 8
SEEDS = {"digits-vit": (10, 11, 12, 13), "chars-gpt": (10, 11)}
VARIANTS = (
    ("8 bits", "--format sinh8", False),
    ("12 bits", "--format sinh12", False),
    ("8 bits and a residual of 4", "--format sinh12 --set rounding=nearest", True),
    ("8 bits and a residual of 4, stochastic", "--format sinh12", True),
)


def coarse(bits: int, knee: float) -> torch.Tensor:
    """Value at scale 1 of every `bits`-bit code, on the nearest of the SEEN-bit rungs in theta."""
    fine, seen = (1 << (bits - 1)) - 1, (1 << (SEEN - 1)) - 1
    steps = torch.arange(-fine, fine + 2, dtype=torch.float64).clamp(max=fine)
    index = (steps * seen / fine).round().long() + seen
    return sinh.value_table(SEEN, knee, torch.empty(0), torch.float64)[index]


@contextmanager
def passes_in_eight_bits() -> Iterator[None]:
    """12-bit codes decode to 8-bit values; rounding to codes stays that of 12 bits."""
    plain = sinh._cached_tables

    def tables(bits: int, knee: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        values, ends = plain(bits, knee, device)
        return (coarse(bits, knee) if bits == STORED else values), ends

    sinh._cached_tables = tables
    cpu._values.cache_clear()
    try:
        yield
    finally:
        sinh._cached_tables = plain
        cpu._values.cache_clear()


def trained(command: str, residual: bool) -> dict[str, Any]:
    """Losses of a run."""
    with tempfile.TemporaryDirectory() as folder:
        if residual:
            with passes_in_eight_bits():
                summary = run(config_of(command), Path(folder) / "run")
        else:
            summary = run(config_of(command), Path(folder) / "run")
    return {"command": command, "status": summary["status"], "loss": summary["loss"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    out = ROOT / "experiments/results/error-feedback.json"
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for task in TASKS:
        recipe = task.split()[0]
        for label, flags, residual in VARIANTS:
            for seed in SEEDS[recipe]:
                asked = task.replace("--seed 0", f"--seed {seed}")
                command = f"rung train {asked} --threads 1 --optimizer signed-madam {flags}"
                rows.append({"label": label, "residual": residual} | trained(command, residual))
                print(recipe, label, seed, rows[-1]["loss"], flush=True)
    record = {"command": "python experiments/error_feedback.py", "runs": rows}
    record["environment"] = environment()
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
