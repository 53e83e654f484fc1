"""What the energy model says of LNS8 beside the published savings, and by which assumption.

    python experiments/energy.py

Counts ResNet-18 and ResNet-50 (224 x 224), BERT base and large (128 tokens) and GPT-2 (1,024
tokens) on the meta device, in batches of 32, and compares the energy of the datapath in LNS8 with
FP32 and FP8 for every model, and for ResNet-50 under one other assumption at a time. Takes seconds.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from rung.hardware.energy import (
    CostTable,
    Counts,
    Design,
    Energy,
    architecture,
    compare,
    count,
    load_costs,
)
from rung.hardware.energy.model import PARTS, PASSES, PHASES
from rung.hardware.energy.record import FORMATS
from rung.hardware.energy.units import DATAPATH
from rung.train.environment import environment

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("resnet18", "resnet50", "bert-base", "bert-large", "gpt2-124m")
BATCH = 32
PUBLISHED = {
    "fp32": 0.9,
    "fp8_e4m3": 0.55,
    "source": "J. Zhao et al., LNS-Madam, arXiv:2106.13914, abstract: over 90 % and over 55 %",
}
View = Callable[[Energy], Energy]


def datapath(energy: Energy) -> Energy:
    """Multiply, conversion and accumulation."""
    return energy.datapath


def scaled(row: str, factor: float) -> CostTable:
    """The table with one row changed."""
    costs = load_costs()
    cost = costs.rows[row]
    changed = replace(cost, picojoules=factor * cost.picojoules)
    return replace(costs, rows={**costs.rows, row: changed})


def assumptions() -> Iterator[tuple[str, Design, CostTable, View]]:
    """A name, and what differs from the first."""
    costs, usual = load_costs(), Design()
    yield "as above", usual, costs, datapath
    yield "FP8 sums in FP16", Design(float_accumulator="fp16"), costs, datapath
    wide = scaled("narrow_float_multiply", 1.95)
    yield "narrow float multipliers cost 1.95 times the rule", usual, wide, datapath
    for length in (8, 128, 1024):
        title = f"constants once in {length} products instead of 32"
        yield title, Design(vector_length=length), costs, datapath
    yield "constants are wires, no register is read", usual, scaled("register_32_read", 0), datapath
    yield "a shift costs twice an addition", usual, scaled("int32_shift", 2), datapath
    yield "Mitchell's 1 + x, no constants", Design(conversion="mitchell"), costs, datapath
    yield "accumulators of 32 bits", Design(accumulator_bits=32), costs, datapath
    parts = (*DATAPATH, "buffer")
    yield "with reads of a 32 KB buffer", usual, costs, lambda e: e.only(parts, PHASES)
    yield "with all memory", usual, costs, lambda e: e.only(PARTS, PHASES)
    yield "with all memory and the update", usual, costs, lambda e: e.only(PARTS, PASSES)


def savings(counts: Counts, design: Design, costs: CostTable, view: View) -> dict[str, object]:
    """LNS8's, against FP32 and FP8: value, low, high."""
    found = compare(counts, ["fp32", "fp8", "lns8"], costs, design=design)
    ours = view(found["lns8"])
    return {
        name: [round(share, 4) for share in ours.saving(view(found[name]))]
        for name in ("fp32", "fp8_e4m3")
    }


def by_format(counts: Counts) -> list[dict[str, object]]:
    """Picojoules of one multiply-accumulate by part, and millijoules of a step by example."""
    rows = []
    for name, energy in compare(counts, FORMATS).items():
        parts = energy.datapath.by("part")
        row = {"format": name, "step_mj": figure(energy.total.value * 1e-9 / BATCH)}
        row |= {"inference_mj": figure(energy.only(phases=["forward"]).total.value * 1e-9 / BATCH)}
        row |= {part: figure(parts[part].value / counts.macs) for part in DATAPATH}
        datapath = energy.datapath.total
        row |= {"mac": [figure(value / counts.macs) for value in datapath]}
        rows.append(row)
    return rows


def figure(value: float) -> float:
    """Four significant figures."""
    return float(f"{value:.4g}")


def main() -> None:
    """Count, compare, write."""
    counts = {name: count(*architecture(name, BATCH)) for name in MODELS}
    usual = next(assumptions())[1:]
    head = {
        "experiment": "energy-published",
        "what": "A model, not a measurement.",
        "command": "python experiments/energy.py",
        "batch": BATCH,
        "costs": load_costs().name,
        "published": PUBLISHED,
        "environment": environment(),
    }
    tables = {
        "models": [
            {"model": name, "macs": found.macs, **savings(found, *usual)}
            for name, found in counts.items()
        ],
        "assumptions": [
            {"assumption": name, **savings(counts["resnet50"], *rest)}
            for name, *rest in assumptions()
        ],
        "formats": by_format(counts["resnet50"]),
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    blocks = []
    for name, rows in tables.items():
        body = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        blocks.append(f' "{name}": [\n{body}\n ]')
    target = ROOT / "experiments" / "results" / "energy-published.json"
    target.write_text("\n".join(["{", *lines, ",\n".join(blocks), "}", ""]))
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
