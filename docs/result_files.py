"""What the docs' tables share: result files, and how a figure and its origin are written."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
BENCHMARKS = ROOT / "benchmarks" / "results"
Run = dict[str, Any]


def load(name: str) -> dict[str, Any]:
    """One result file."""
    data: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return data


def exists(name: str) -> bool:
    """Whether an experiment was run."""
    return (RESULTS / f"{name}.json").exists()


def measured(source: str | Path, make: Callable[[], str]) -> Callable[[], str]:
    """A table that says so where its result file, or the file of its name, isn't there yet."""

    def table() -> str:
        path = source if isinstance(source, Path) else RESULTS / f"{source}.json"
        return make() if path.exists() else "(not yet measured)\n"

    return table


def by_label(result: dict[str, Any]) -> dict[str, list[Run]]:
    """Runs of each row of a table, in the file's order."""
    rows: dict[str, list[Run]] = {}
    for run in result["runs"]:
        rows.setdefault(run["label"], []).append(run)
    return rows


def spread(values: list[float], form: str) -> str:
    """Mean, with the range where there are several."""
    if len(values) == 1:
        return format(values[0], form)
    return f"{mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def bytes_a_weight(run: Run) -> str:
    """Weights and optimizer state of one run, measured, per weight."""
    size = run["bytes"]
    weights, state = size["weights_per_weight"], size["state_per_weight"]
    return f"{weights:.2f} + {state:.2f} = {weights + state:.2f}"


def outcome(runs: list[Run], factor: float, form: str) -> str:
    """Final metric of a row's runs, and how many diverged."""
    diverged = sum(run["status"] != "finished" for run in runs)
    values = [factor * run["metric"]["final"] for run in runs if run["status"] == "finished"]
    figure = spread(values, form) if values else ""
    return (figure + (f" ({diverged} diverged)" if diverged else "")).strip()


def provenance(result: dict[str, Any]) -> str:
    """One sentence on data, machine, versions, seeds and command."""
    first = result["runs"][0]
    environment = first["environment"]
    seeds = sorted({run["seed"] for run in result["runs"]})
    kind = "one run each" if len(seeds) == 1 else f"mean and range over {len(seeds)} seeds"
    return origin(result, environment, kind, seeds)


def origin(result: dict[str, Any], environment: dict[str, Any], kind: str, seeds: list[int]) -> str:
    """`provenance` with another word on what the seeds were put together to."""
    first = result["runs"][0]
    note = f" {result['note']}." if result["note"] else ""
    return (
        f"{kind.capitalize()}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}. "
        f"Data: {first['data']}.{note} Machine: {environment['processor']}, one thread a run; "
        f"torch {environment['torch']}, Python {environment['python']}. "
        f"First row: `{first['command']}`; all rows in `experiments/results/"
        f"{result['experiment']}.json`."
    )
