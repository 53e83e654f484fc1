"""What tables and figures of `rung reproduce` ask of a results file."""

import math
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

Record = Mapping[str, Any]

_NEAR = 1.05
"""Errors up to so many times the best count as near it."""
_PER_OCTAVE = math.log(2)


def shown(record: Record) -> list[Record]:
    """Rows of a results file that have runs, some of them perhaps not all."""
    return [row for row in record["rows"] if row.get("runs")]


def runs_of(row: Record, contestant: str) -> list[Record]:
    """One contestant's runs on a task."""
    return [run for run in row.get("runs", ()) if run["contestant"] == contestant]


def finals(row: Record, contestant: str) -> list[float]:
    """Final metrics, in the row's unit, of the runs that finished."""
    finished = (run for run in runs_of(row, contestant) if run["status"] == "finished")
    return [row["factor"] * run["final"] for run in finished]


def against(row: Record, contestant: str, other: str) -> float | None:
    """By how many percent a contestant's mean lies above another one's; None without runs.

    Over the seeds at which both have finished, which are not all where a row isn't complete.
    """
    ours, theirs = (
        {run["seed"]: run["final"] for run in runs_of(row, c) if run["status"] == "finished"}
        for c in (contestant, other)
    )
    both = ours.keys() & theirs.keys()
    if not both:
        return None
    share = mean(ours[seed] for seed in both) / mean(theirs[seed] for seed in both)
    return float(100 * (share - 1))


def bytes_of(run: Record) -> float:
    """Bytes of weights and optimizer state for each weight of a model."""
    size = run["bytes"]
    return float(size["weights_per_weight"] + size["state_per_weight"])


def higher_is_better(row: Record) -> bool:
    """Direction of a measured row's metric."""
    return bool(row["runs"][0]["metric"]["higher_is_better"])


def error_by_rate(row: Record, contestant: str) -> dict[float, float]:
    """Mean error at each learning rate, which runs that diverged make infinite.

    An accuracy's error is what it lacks of 100 %.
    """
    found: dict[float, list[float]] = {}
    up = higher_is_better(row)
    for run in runs_of(row, contestant):
        value = math.inf
        if run["status"] == "finished" and run["final"] is not None:
            value = row["factor"] * ((1 - run["final"]) if up else run["final"])
        found.setdefault(run["lr"], []).append(value)
    return {rate: mean(values) for rate, values in sorted(found.items())}


def best_rate(errors: Mapping[float, float]) -> float | None:
    """Learning rate of the smallest error; None if every run diverged."""
    rate = min(errors, key=lambda lr: errors[lr])
    return rate if math.isfinite(errors[rate]) else None


def flatness(errors: Mapping[float, float]) -> float | None:
    """Octaves of learning rate around the best within 5 % of its error.

    Between two rates of the grid the logarithm of the error is taken as linear in that of the rate;
    next to a diverged run the span ends at the last rate that finished.
    """
    best = best_rate(errors)
    if best is None:
        return None
    limit = math.log(_NEAR * errors[best]) if errors[best] > 0 else -math.inf
    rates = list(errors)
    place = rates.index(best)
    low = _edge(errors, rates[place::-1], limit)
    high = _edge(errors, rates[place:], limit)
    return (high - low) / _PER_OCTAVE


def _edge(errors: Mapping[float, float], rates: list[float], limit: float) -> float:
    """Ln of the rate at which the error leaves the limit, walking from the best one."""
    edge = math.log(rates[0])
    for near, far in zip(rates, rates[1:], strict=False):
        if not math.isfinite(errors[far]):
            break
        begin, end = (math.log(errors[rate]) for rate in (near, far))
        if end <= limit:
            edge = math.log(far)
            continue
        share = (limit - begin) / (end - begin)
        return math.log(near) + share * (math.log(far) - math.log(near))
    return edge


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Mean, and range where there are several."""
    values = list(values)
    if not values:
        return ""
    middle = number(mean(values), digits)
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values), digits)} to {number(max(values), digits)})"


def number(value: float, digits: int = 2) -> str:
    """With two decimals under 100, one above."""
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.1f}"


def seeds(row: Record) -> list[int]:
    """Seeds of a measured row."""
    return sorted({run["seed"] for run in row["runs"]})
