"""Energies as plain data, for JSON and for reports."""

from collections.abc import Iterable, Mapping
from typing import Any

from rung.formats import Format
from rung.hardware.energy.cost_table import CostTable, load_costs
from rung.hardware.energy.counts import PHASES, Counts
from rung.hardware.energy.design import Design
from rung.hardware.energy.estimate import Band
from rung.hardware.energy.model import DISCLAIMER, PARTS, PASSES, Energy, compare
from rung.hardware.energy.units import DATAPATH

FORMATS = ("fp32", "tf32", "fp16", "bf16", "fp8", "mxfp6", "mxfp4", "int8", "int4", "lns8")
"""What `rung energy` compares unless told otherwise."""

_PICO = 1e-12


def energy_record(
    model: str,
    counts: Counts,
    formats: Iterable[str | Format] = FORMATS,
    costs: CostTable | None = None,
    *,
    design: Design | None = None,
) -> dict[str, Any]:
    """All that `rung energy` writes, in joules.

    Args:
        model: Name.
        counts: From `count`, with or without a backward pass.
        formats: As for `unit_of`; the first is what the others are compared with.
        costs: Default: the table that comes with Rung.
        design: Default: `Design()`.

    Returns:
        Plain data: dicts, lists, strings and numbers. Every energy is ``[value, low, high]``.
    """
    costs, design = costs or load_costs(), design or Design()
    chosen = tuple(formats)
    steps = {"inference": compare(counts.inference, chosen, costs, design=design)}
    if counts.weights:
        steps = {"training step": compare(counts, chosen, costs, design=design)} | steps
    return {
        "what": DISCLAIMER,
        "model": model,
        "parameters": counts.parameters,
        "counts": {
            phase: {
                "macs": part.macs,
                "weights": part.moved.weights,
                "activations": part.moved.activations,
                "gradients": part.moved.gradients,
            }
            for phase in PHASES
            if (part := counts.of(phase)).works
        },
        "uncounted": list(counts.uncounted),
        "costs": {"name": costs.name, "rows": _rows(costs)},
        "design": {name: getattr(design, name) for name in design.__dataclass_fields__},
        "steps": {
            step: {name: _energy(result) for name, result in found.items()}
            for step, found in steps.items()
        },
        "saving": {step: _savings(found) for step, found in steps.items()},
    }


def _energy(result: Energy) -> dict[str, Any]:
    return {
        "total": _joules(result.total),
        "datapath": _joules(result.datapath.total),
        "datapath parts": _by(result.datapath, "part", DATAPATH),
        "passes": _by(result, "phase", PASSES),
        "parts": _by(result, "part", PARTS),
        "layers": _by(result, "group"),
        "update": result.update,
    }


def _by(result: Energy, field: str, order: Iterable[str] | None = None) -> dict[str, list[float]]:
    bands = result.by(field)
    return {key: _joules(bands[key]) for key in order or bands if key in bands}


def _savings(found: Mapping[str, Energy]) -> dict[str, Any]:
    """Of every format against the first: of the datapath, and of all parts."""
    first, *others = found.values()
    return {
        result.format: {
            "against": first.format,
            "datapath": list(result.datapath.saving(first.datapath)),
            "total": list(result.saving(first)),
        }
        for result in others
    }


def _rows(costs: CostTable) -> dict[str, Any]:
    return {
        row: {
            "picojoules": cost.picojoules,
            "low": cost.low,
            "high": cost.high,
            "source": cost.source,
        }
        for row, cost in costs.rows.items()
    }


def _joules(band: Band) -> list[float]:
    return [value * _PICO for value in band]
