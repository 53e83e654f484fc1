"""Rows of a comparison: one for each run, and one for runs that differ in their seed only."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rung.report.facts import Metric, metric_of, whole_model
from rung.report.run import Run

# Settings that must be equal before figures of two runs of one recipe can be compared.
_CONDITIONS = ("data", "epochs", "schedule", "batch_size", "options")


@dataclass(frozen=True, slots=True)
class Row:
    """One run in a comparison."""

    name: str
    """The folder, as short as keeps it different from the other runs."""
    run: Run
    metric: Metric | None
    weight_bytes: float | None
    """Bytes per weight that hold the weights."""
    state_bytes: float | None
    """Bytes per weight that hold the optimizer's state."""
    ms_per_step: float | None
    """Median time of a training step in milliseconds."""

    @property
    def both_bytes(self) -> float | None:
        """Bytes per weight of weights and state together."""
        if self.weight_bytes is None or self.state_bytes is None:
            return None
        return self.weight_bytes + self.state_bytes

    @property
    def setup(self) -> str:
        """What is compared: ``bbit-madam ladder8, lr 0.01``."""
        return setup_name(self.run)

    @property
    def key(self) -> str:
        """Equal for runs that differ in nothing but their seed."""
        names = ("recipe", "optimizer", "format", "lr", *_CONDITIONS)
        return json.dumps([self.run.config.get(name) for name in names], sort_keys=True)


@dataclass(frozen=True, slots=True)
class SeedGroup:
    """Finished runs that differ in nothing but their seed."""

    rows: tuple[Row, ...]
    """At least two runs with different seeds."""
    left_out: int
    """Runs of the same set-up that diverged or have not ended."""

    @property
    def mean(self) -> float:
        """Mean of the final metric."""
        values = self.finals
        return sum(values) / len(values)

    @property
    def finals(self) -> list[float]:
        """Final metric of every run."""
        found = (row.metric.final for row in self.rows if row.metric)
        return [value for value in found if value is not None]

    @property
    def seeds(self) -> int:
        """Number of different seeds."""
        return len({row.run.config["seed"] for row in self.rows})


def setup_name(run: Run) -> str:
    """Optimizer, format and learning rate of a run."""
    parts = [run.config["optimizer"], run.config["format"] or ""]
    lr = run.config.get("lr")
    return " ".join(part for part in parts if part) + (f", lr {lr:g}" if lr is not None else "")


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """One row for each run, in the order given."""
    rows = []
    for run, name in zip(runs, short_names([run.folder for run in runs]), strict=True):
        whole = whole_model(run)
        weight, state = whole.per_weight if whole else (None, None)
        step = run.summary["time"]["ms_per_step"] if run.summary else None
        rows.append(Row(name, run, metric_of(run), weight, state, step))
    return rows


def short_names(folders: Sequence[Path]) -> list[str]:
    """Names of folders, with the parents that it takes to tell them apart."""
    full = [folder.resolve() for folder in folders]
    names = [path.name for path in full]
    if len(set(names)) == len(names):
        return names
    common = os.path.commonpath([path.parent for path in full])
    return [path.relative_to(common).as_posix() for path in full]


def seed_groups(rows: Sequence[Row]) -> list[SeedGroup]:
    """Groups of two or more finished runs with different seeds, in the order of their first run."""
    by_key: dict[str, list[Row]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    groups = []
    for same in by_key.values():
        ended = [
            row
            for row in same
            if row.run.status == "finished" and row.metric and row.metric.final is not None
        ]
        group = SeedGroup(tuple(ended), len(same) - len(ended))
        if group.seeds >= 2:
            groups.append(group)
    return groups


def unequal_conditions(rows: Sequence[Row]) -> list[str]:
    """A sentence for each recipe whose runs were not made under equal conditions."""
    recipes: dict[str, list[Row]] = {}
    for row in rows:
        recipes.setdefault(row.run.config["recipe"], []).append(row)
    notes = []
    for recipe, same in recipes.items():
        unlike = [
            name.replace("_", " ")
            for name in _CONDITIONS
            if len({json.dumps(row.run.config.get(name), sort_keys=True) for row in same}) > 1
        ]
        if unlike:
            notes.append(
                f"Runs of {recipe} differ in {', '.join(unlike)}: "
                "their figures are not of equal conditions."
            )
    return notes
