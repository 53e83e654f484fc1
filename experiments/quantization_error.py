"""What rounding does to one step: additive and multiplicative rules, two grids, two measures.

    python experiments/quantization_error.py

Weights lie on a grid, with magnitudes from 2^-12 to 1, even in the logarithm. Each makes one step
along a gradient drawn from NORMAL(0, 1) and is rounded to the grid again. The grids: an LNS of so
many bits (base factor 2^(bits - 5), largest code 2), and fixed point of so many bits (spacing
2^-(bits - 1)). The rules, with the same lr: W - lr g, and W 2^(-lr sign(W) g). Written are medians
for every half octave of |W|: of the error |log2|Q(W')| - log2|W'||, which is the paper's measure,
and of the share of the step that it is. "worst" is the largest error of all steps that end inside
the grid's range. Takes about a minute.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from rung.formats import LNS, get
from rung.theory import additive_step, lost_share, multiplicative_step, quantization_error
from rung.train.environment import environment

ROOT = Path(__file__).resolve().parent.parent
BITS = (8, 10, 12, 14, 16)
LRS = (2**-10, 2**-9, 2**-8, 2**-7, 2**-6, 2**-5, 2**-4)
OCTAVES, PER_OCTAVE, DRAWS, SEED = 12, 2, 10_000, 0
LARGEST = 2.0
CLIP = 10.0
RULES = {"additive": additive_step, "multiplicative": multiplicative_step}
Measure = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# Rounding, the two measures, the smallest value that is not 0.
Grid = tuple[Callable[[Tensor], Tensor], Measure, float]


def lns(bits: int) -> Grid:
    """An LNS whose largest code is 2."""
    name = f"lns{bits}"

    def measure(before: Tensor, updated: Tensor) -> tuple[Tensor, Tensor]:
        error = quantization_error(updated, name, scale=LARGEST)
        return error, lost_share(before, updated, name, scale=LARGEST)

    fmt = get(name)
    assert isinstance(fmt, LNS)
    return lambda x: fmt.quantize(x, scale=LARGEST), measure, fmt.smallest * LARGEST


def fixed_point(bits: int) -> Grid:
    """Multiples of 2^-(bits - 1)."""
    spacing = 2.0 ** (1 - bits)

    def quantize(x: Tensor) -> Tensor:
        return (x / spacing).round() * spacing

    def octaves(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(a == b, 0.0, (a.abs().log2() - b.abs().log2()).abs())

    def measure(before: Tensor, updated: Tensor) -> tuple[Tensor, Tensor]:
        error = octaves(quantize(updated), updated)
        share = error / octaves(updated, before)
        return error, torch.where(error == 0, 0.0, share)

    return quantize, measure, spacing


GRIDS = {"lns": lns, "fixed-point": fixed_point}


def rows() -> Iterator[dict[str, object]]:
    """A row for every grid, width, rule and lr."""
    generator = torch.Generator().manual_seed(SEED)
    bins = OCTAVES * PER_OCTAVE
    where = torch.rand(bins, DRAWS, generator=generator, dtype=torch.float64)
    exponents = (torch.arange(bins)[:, None] + where) / PER_OCTAVE - OCTAVES
    signs = torch.randn(bins, DRAWS, generator=generator, dtype=torch.float64).sign()
    grad = torch.randn(bins, DRAWS, generator=generator, dtype=torch.float64).clamp(-CLIP, CLIP)
    for grid, make in GRIDS.items():
        for bits in BITS:
            quantize, measure, smallest = make(bits)
            before = quantize(signs * exponents.exp2())
            exists = before != 0
            for rule, step in RULES.items():
                for lr in LRS:
                    updated = step(before, grad, lr)
                    error, share = measure(before, updated)
                    size = updated.abs()
                    inside = exists & (size >= smallest) & (size <= LARGEST)
                    yield {
                        "grid": grid,
                        "bits": bits,
                        "rule": rule,
                        "lr": lr,
                        "error": medians(error, exists),
                        "share": medians(share, exists),
                        "worst": figure(error[inside].max()),
                    }


def medians(values: Tensor, exists: Tensor) -> list[float | None]:
    """Median of each row; None where fewer than half of its weights are on the grid but not 0."""
    return [
        figure(row[here].median()) if int(here.sum()) > here.numel() / 2 else None
        for row, here in zip(values, exists, strict=True)
    ]


def figure(value: Tensor) -> float | None:
    """Four significant figures; None for infinity, which JSON has not."""
    number = float(value)
    return float(f"{number:.4g}") if math.isfinite(number) else None


def main() -> None:
    torch.set_num_threads(1)
    head = {
        "experiment": "quantization-error",
        "command": "python experiments/quantization_error.py",
        "draws": DRAWS,
        "seed": SEED,
        "log2_weight": [
            (index + 0.5) / PER_OCTAVE - OCTAVES for index in range(OCTAVES * PER_OCTAVE)
        ],
        "environment": environment(),
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    # A row on a line: one number on each would be 10,000 lines.
    body = ",\n".join(f"  {json.dumps(row)}" for row in rows())
    target = ROOT / "experiments" / "results" / "quantization-error.json"
    target.write_text("\n".join(["{", *lines, ' "rows": [', body, " ]", "}", ""]))
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
