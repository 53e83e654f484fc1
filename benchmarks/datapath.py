"""Speed of the bit-true datapath, and of other matrix products, in one process, interleaved.

    python benchmarks/datapath.py [--size 512]

512 x 512 x 512 multiply-accumulates of 8-bit LNS codes (gamma 8) on one thread, median CPU time.
xlnstorch, where it is installed, multiplies smaller matrices: it says of which size. Writes
benchmarks/results/datapath.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rung.formats import get
from rung.hardware.datapath import Datapath, matmul, matmul_counted
from rung.train.environment import environment

ROUNDS, SMALL = 9, 96
DESIGNS = {
    "24-bit bins, 14 bits dropped": Datapath(dropped_bits=14),
    "40-bit bins, none dropped": Datapath(accumulator_bits=40),
    "hybrid, 2 constants, 40-bit bins": Datapath(
        conversion="hybrid", table_size=2, accumulator_bits=40
    ),
    "Mitchell, 40-bit bins": Datapath(conversion="mitchell", accumulator_bits=40),
    "24-bit bins, 9 bits dropped": Datapath(dropped_bits=9),
    "24-bit bins, none dropped (all overflow)": Datapath(),
    "16-bit bins, 17 bits dropped": Datapath(accumulator_bits=16, dropped_bits=17),
    "32-bit bins, none dropped": Datapath(accumulator_bits=32),
    "hybrid, 2 constants, 24-bit bins, 12 bits dropped": Datapath(
        conversion="hybrid", table_size=2, dropped_bits=12
    ),
    "Mitchell, 24-bit bins, 14 bits dropped": Datapath(conversion="mitchell", dropped_bits=14),
}


def contestants(size: int) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Label -> multiply-accumulates, and the product."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn((size, size), generator=generator) for _ in range(2))
    fmt = get("lns8")
    a, b = fmt.encode(x).codes, fmt.encode(y).codes
    cases: dict[str, tuple[int, Callable[[], Any]]] = {
        label: (size**3, lambda design=design: matmul(a, b, design))
        for label, design in DESIGNS.items()
    }
    cases["torch, float32"] = (size**3, lambda: x @ y)
    wide = x.double(), y.double()
    cases["torch, float64"] = (size**3, lambda: wide[0] @ wide[1])
    p, q = (t.mul(40).clamp(-127, 127).to(torch.int8) for t in (x, y))
    cases["torch, int8 (_int_mm)"] = (size**3, lambda: torch._int_mm(p, q))
    return cases


def xlnstorch_case() -> tuple[int, Callable[[], Any]] | str:
    """A product of xlnstorch's tensors; or why there is none."""
    try:
        import xlnstorch

        x, y = (torch.randn((SMALL, SMALL), dtype=torch.float64) for _ in range(2))
        p, q = xlnstorch.lnstensor(x), xlnstorch.lnstensor(y)
        torch.matmul(p, q)
    except Exception as error:  # a peer may fail in any way
        return f"{type(error).__name__}: {error}"
    return SMALL**3, lambda: torch.matmul(p, q)


def measure(cases: dict[str, tuple[int, Callable[[], Any]]]) -> dict[str, list[float]]:
    """CPU seconds of each case, a round after the other."""
    times: dict[str, list[float]] = {label: [] for label in cases}
    for round_ in range(ROUNDS + 1):
        for label, (_, run) in cases.items():
            begin = time.process_time()
            run()
            if round_:  # the first round compiles
                times[label].append(time.process_time() - begin)
    return times


def overflowing(size: int, design: Datapath) -> float:
    """Share of outputs with an overflow."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn((size, size), generator=generator) for _ in range(2))
    fmt = get("lns8")
    counted = matmul_counted(fmt.encode(x).codes, fmt.encode(y).codes, design)
    return float((counted.overflows > 0).double().mean())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    size = parser.parse_args().size
    torch.set_num_threads(1)
    cases, peer = contestants(size), xlnstorch_case()
    if not isinstance(peer, str):
        cases[f"xlnstorch, {SMALL} x {SMALL} x {SMALL}"] = peer
    times = measure(cases)
    rows = []
    for label, (count, _) in cases.items():
        seconds = sorted(times[label])
        row = {
            "label": label,
            "gmac_per_second": round(count / statistics.median(seconds) / 1e9, 4),
            "quartiles": [round(count / seconds[i] / 1e9, 4) for i in (-3, 2)],
        }
        if label in DESIGNS:
            row["outputs_with_overflows"] = round(overflowing(size, DESIGNS[label]), 4)
        rows.append(row)
        print(f"{label:45s} {row['gmac_per_second']:9.3f} G MAC/s  {row['quartiles']}")
    if isinstance(peer, str):
        rows.append({"label": "xlnstorch", "error": peer})
        print(f"{'xlnstorch':45s} doesn't run here: {peer}")
    command = f"python benchmarks/datapath.py --size {size}"
    result = {"size": size, "rows": rows, "environment": environment(), "command": command}
    path = Path(__file__).parent / "results" / "datapath.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
