"""What an LNS datapath's approximations cost: conversions, products, sums of normal numbers.

    python experiments/datapath_error.py

Written are: errors of every conversion at base factor 8 (by enumeration), of products over all
pairs of 8-bit codes by dropped bits, and of single remainders at base factor 64; bits that bins
take, overflow and signal over error by accumulator width, and by length, for matrix products of
NORMAL(0, 1) numbers in LNS of 8 bits and base factor 8 with a scale for each row and column.
Takes about a minute.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rung.formats import LNS
from rung.hardware import analysis
from rung.hardware.datapath import Datapath
from rung.train.environment import environment

ROOT = Path(__file__).resolve().parent.parent
GAMMA, BITS, SEED, SIDE, LENGTH = 8, 8, 0, 32, 1024
FRACTION_BITS = (4, 6, 8, 12)
TABLE_SIZES = (1, 2, 4, 8)
FINE = 64
DROPPED = (0, 8, 16, 20, 24)
WIDTHS = range(10, 37)
ROOM = 48
FORMAT = LNS(BITS, GAMMA)


def design(size: int, gamma: int = GAMMA, **more: Any) -> Datapath:
    """A conversion by its table's size, with accumulators of 48 bits unless told."""
    more = {"accumulator_bits": ROOM, **more}
    if size == 1:
        return Datapath(gamma, "mitchell", **more)
    if size == gamma:
        return Datapath(gamma, "lut", **more)
    return Datapath(gamma, "hybrid", table_size=size, **more)


def conversions() -> Iterator[dict[str, Any]]:
    for fraction_bits in FRACTION_BITS:
        for size in TABLE_SIZES:
            found = analysis.conversion_error(design(size, fraction_bits=fraction_bits), BITS)
            yield {
                "base_factor": GAMMA, "table_size": size, "fraction_bits": fraction_bits,
                "worst": found.worst, "mean": found.mean, "bias": found.bias,
            }  # fmt: skip


def products() -> Iterator[dict[str, Any]]:
    for size in TABLE_SIZES:
        # A unit of dropped bits is the smallest product for every conversion.
        guard = 0 if size == GAMMA else 3
        for dropped in range(0, 25, 2):
            path = design(size, dropped_bits=dropped + guard)
            yield {
                "table_size": size, "bits": BITS, "dropped_bits": dropped,
                **asdict(analysis.conversion_error(path, BITS).product),
            }  # fmt: skip


def remainders() -> Iterator[dict[str, Any]]:
    for size in (1, 2, 4, 8, 16, FINE):
        found = analysis.conversion_error(design(size, FINE), BITS)
        yield {"table_size": size, "errors": list(found.remainders)}


def operands(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    shapes = ((SIDE, length), (length, SIDE))
    a, b = (torch.randn(*shape, generator=generator) for shape in shapes)
    return a, b


def bins() -> Iterator[dict[str, Any]]:
    for length in (64, 512, 4096):
        a, b = operands(length)
        x, y = FORMAT.encode(a, axis=0).codes, FORMAT.encode(b, axis=1).codes
        found = analysis.partial_sums(design(GAMMA), x, y)
        yield {
            "length": length, "bins": list(found.bins[:40]), "outputs": list(found.outputs[:40]),
            **{f"bits_{100 * s:g}": found.quantile(s) for s in (0.5, 0.99, 1.0)},
        }  # fmt: skip


def widths() -> Iterator[dict[str, Any]]:
    a, b = operands(LENGTH)
    x, y = FORMAT.encode(a, axis=0).codes, FORMAT.encode(b, axis=1).codes
    for dropped in DROPPED:
        for overflow in ("saturate", "wrap"):
            # Wider ones never overflow, and results would take more than 64 bits.
            for width in range(WIDTHS[0], min(WIDTHS[-1], 52 - dropped) + 1):
                path = Datapath(
                    GAMMA, accumulator_bits=width, dropped_bits=dropped, overflow=overflow
                )
                ratios = analysis.matmul_error(path, FORMAT, a, b)
                counted = analysis.overflows(path, x, y)[0]
                yield {
                    "dropped_bits": dropped, "overflow": overflow, "length": LENGTH,
                    "accumulator_bits": width, "outputs": counted.outputs,
                    "additions": counted.share, "format_db": ratios.format_db,
                    "datapath_db": ratios.datapath_db,
                }  # fmt: skip


def lengths() -> Iterator[dict[str, Any]]:
    for size in reversed(TABLE_SIZES):
        path = design(size)
        for found in analysis.dot_error(path, FORMAT, samples=SIDE * SIDE, seed=SEED):
            yield {"conversion": path.conversion, "table_size": size, **asdict(found)}


def figures(value: Any) -> Any:
    """Six significant figures; None for infinity, which JSON has not."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, list):
        return [figures(item) for item in value]
    return value


def main() -> None:
    torch.set_num_threads(1)
    head = {
        "experiment": "datapath-error",
        "command": "python experiments/datapath_error.py",
        "format": {"bits": BITS, "base_factor": GAMMA, "scales": "row and column"},
        "seed": SEED,
        "outputs": SIDE * SIDE,
        "environment": environment(),
    }
    parts = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for make in (conversions, products, remainders, bins, widths, lengths):
        rows = [{key: figures(value) for key, value in row.items()} for row in make()]
        # A row on a line: one number on each would be thousands of lines.
        body = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        parts.append(f' "{make.__name__}": [\n{body}\n ]')
    target = ROOT / "experiments" / "results" / "datapath-error.json"
    target.write_text("{\n" + ",\n".join(parts) + "\n}\n")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
