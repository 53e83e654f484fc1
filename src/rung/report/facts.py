"""Facts of a run that several parts of a report need, from whichever file has them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rung.report.run import Run

ADAMW_BYTES = 12.0
"""Bytes per weight of AdamW in float32: the weight and two moments, 4 bytes each."""

MULTIPLICATIVE = "madam"
"""Part of the name of every optimizer whose step multiplies the weights, but of `FREE`."""

FREE = "signed-madam"
"""Multiplies large weights and adds to small ones."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a run is judged by."""

    name: str
    split: str
    higher_is_better: bool
    final: float | None
    best: float | None

    @property
    def title(self) -> str:
        """For headings and axes: ``test accuracy``."""
        return f"{self.split} {self.name.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class Part:
    """Memory of one part of a model."""

    name: str
    numel: int
    weight_bytes: float
    state_bytes: float

    @property
    def per_weight(self) -> tuple[float, float]:
        """Bytes per weight of the weights and of the optimizer state."""
        return self.weight_bytes / max(1, self.numel), self.state_bytes / max(1, self.numel)


def finite(value: Any) -> float:
    """A number of a JSON file as a float; null and numbers beyond float become NaN."""
    return float(value) if value is not None and math.isfinite(value) else math.nan


def metric_of(run: Run) -> Metric | None:
    """The metric of the summary, or of the evaluations so far when there is no summary."""
    if run.summary is not None:
        found = run.summary["metric"]
        return Metric(
            found["name"], found["split"], found["higher_is_better"], found["final"], found["best"]
        )
    records = [record for record in run.eval_records if record["metric"]]
    if not records:
        return None
    name, split = next(iter(records[-1]["metric"])), records[-1]["split"]
    values = metric_series(records, name, split)[1]
    known = [value for value in values if math.isfinite(value)]
    # Without a summary only the name can say which way is better.
    higher = name.lower() in ("accuracy", "f1")
    best = (max if higher else min)(known) if known else None
    final = values[-1] if math.isfinite(values[-1]) else None
    return Metric(name, split, higher, final, best)


def metric_series(
    records: Sequence[dict[str, Any]], name: str, split: str
) -> tuple[list[int], list[float]]:
    """Steps and values of a metric on a split; NaN where it was not finite."""
    chosen = [r for r in records if r["split"] == split and name in r["metric"]]
    return [r["step"] for r in chosen], [finite(r["metric"][name]) for r in chosen]


def parts_of(run: Run) -> list[Part]:
    """Memory by part: of the summary, else by kind of layer; the part with most weights first."""
    if run.summary is not None:
        parts = [
            Part(p["name"], p["numel"], p["weight_bytes"], p["state_bytes"])
            for p in run.summary["by_part"]
        ]
    else:
        kinds: dict[str, Part] = {}
        for layer in run.diagnostics["layers"] if run.diagnostics else []:
            old = kinds.get(layer["kind"], Part(layer["kind"], 0, 0.0, 0.0))
            kinds[layer["kind"]] = Part(
                old.name,
                old.numel + layer["numel"],
                old.weight_bytes + layer["weight_bytes"],
                old.state_bytes + layer["state_bytes"],
            )
        parts = list(kinds.values())
    return sorted((part for part in parts if part.numel), key=lambda part: -part.numel)


def whole_model(run: Run) -> Part | None:
    """Memory of all parts together; None where nothing has measured it."""
    if run.summary is not None:
        measured = run.summary["bytes"]
        return Part(
            "Whole model", run.summary["parameters"], measured["weights"], measured["state"]
        )
    parts = parts_of(run)
    if not parts:
        return None
    return Part(
        "Whole model",
        sum(part.numel for part in parts),
        sum(part.weight_bytes for part in parts),
        sum(part.state_bytes for part in parts),
    )


def is_multiplicative(run: Run) -> bool:
    """Whether the run's optimizer multiplies its weights, as Theorem 1 assumes."""
    name = run.config["optimizer"].lower()
    return MULTIPLICATIVE in name and name != FREE


def is_difference(run: Run) -> bool:
    """Whether weights are differences of two numbers that the optimizer multiplies."""
    return bool(run.config["optimizer"] == "lmd")


def formats_of(run: Run) -> str:
    """Formats of a run: ``ladder8``, ``lns8, lns16 weights``; empty where all is float32."""
    weights = run.config.get("update_format")
    parts = [run.config["format"], f"{weights} weights" if weights else None]
    return ", ".join(part for part in parts if part)


def in_nats(run: Run, lr: float | None) -> float | None:
    """A learning rate as the typical change of ln|w| in a step; LNS-Madam's is in octaves."""
    if lr is None or not in_octaves(run):
        return lr
    return lr * math.log(2)


def in_octaves(run: Run) -> bool:
    """Whether the run's learning rate is a change of log2|w| rather than of ln|w|."""
    return bool(run.config["optimizer"] == "lns-madam")


def layer_bound(angle: float | None, depth: int) -> float | None:
    """One layer's term of Theorem 1, ``(1 + cos gamma)^(1/L) - 1``."""
    if angle is None or depth < 1:
        return None
    return math.expm1(math.log1p(max(0.0, math.cos(angle))) / depth)


def edge_shares(rungs: dict[str, Any] | None) -> tuple[float, float] | None:
    """Shares of the weights in the first and last bin of a histogram of rungs."""
    total = sum(rungs["counts"]) if rungs else 0
    if not rungs or not total:
        return None
    return rungs["counts"][0] / total, rungs["counts"][-1] / total


def rungs_per_bin(rungs: dict[str, Any]) -> int:
    """Rungs that share one bin: 1 up to 8 bits, more where the histogram was binned."""
    return max(1, -(-levels_of(rungs) // max(1, len(rungs["counts"]))))


def levels_of(rungs: dict[str, Any]) -> int:
    """Different sizes that a weight can have: 2^B on a ladder, 2^(B-1) in an LNS.

    On a sinh ladder different values, 2^B - 1; of a pair of ladders those that numbers are rounded
    to, 2^(B/2) - 1.
    """
    return int(rungs.get("levels", 2 ** rungs["bits"]))


def system_of(rungs: dict[str, Any]) -> str:
    """``8-bit ladder``, ``16-bit LNS``, ``8-bit sinh ladder`` or ``16-bit pair of ladders``."""
    words = {"lns": "LNS", "sinh": "sinh ladder", "pair": "pair of ladders"}
    return f"{rungs['bits']}-bit {words.get(rungs.get('system', ''), 'ladder')}"
