"""Rows of a comparison: one for each run, and one for runs that differ in their seed only."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rung.report.facts import Metric, formats_of, metric_of, whole_model
from rung.report.run import Run

# What a run does beside training, and what belongs to an optimizer, need not be equal: the first
# changes no figure, the second is what is compared.
_BOOKKEEPING = frozenset(
    {"log_every", "checkpoint_minutes", "max_loss", "eval_batch_size", "workers"}
)
_OPTIMIZER_OPTIONS = frozenset(
    [
        "additive_lr",
        "beta",
        "beta1",
        "beta2",
        "clip",
        "clip_norm",
        "entropy",
        "evaluate",
        "float_weights",
        "init",
        "min_scale",
        "momentum",
        "momentum_bits",
        "offset",
        "others",
        "parts_format",
        "prior",
        "reach",
        "regularization",
        "rounding",
        "samples",
        "scale_axis",
        "scale_bound",
        "scales_from",
        "sigma",
        "signs",
        "state",
        "update",
        "update_format",
        "update_rounding",
        "weight_decay",
        "weight_scaled",
    ]
)
# Runs of an older Rung lack these, and are as if they had these values.
_NO_EFFECT: dict[str, Any] = {
    "warmup_steps": 0,
    "warmup_share": None,
    "final_lr_share": 0.0,
    "steps_per_epoch": None,
    "eval_tokens": None,
    "average_from": 0.0,
    "precision": "float32",
}
_CONDITIONS = ("data", "epochs", "schedule", "batch_size")


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

    setup: str
    """What is compared: ``bbit-madam ladder8, lr 0.01`` and options that tell it from others."""

    @property
    def key(self) -> str:
        """Equal for runs that differ in nothing but their seed."""
        return json.dumps([setup_name(self.run), settings_of(self.run)], sort_keys=True)


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
    """Optimizer, formats and learning rate of a run."""
    parts = [run.config["optimizer"], formats_of(run)]
    lr = run.config.get("lr")
    return " ".join(part for part in parts if part) + (f", lr {lr:g}" if lr is not None else "")


def settings_of(run: Run) -> dict[str, Any]:
    """Everything that decides a run's figures, apart from optimizer, format, lr and seed."""
    options = run.config.get("options") or {}
    chosen = {name: value for name, value in options.items() if name not in _BOOKKEEPING}
    if run.config.get("update_format") is None:
        # Runs of an older Rung lack these options.
        chosen = {name: chosen[name] for name in chosen if not name.startswith("update_")}
    chosen = {k: v for k, v in chosen.items() if k not in _NO_EFFECT or v != _NO_EFFECT[k]}
    chosen |= run.config.get("layers") or {}
    fixed = {name: run.config.get(name) for name in ("recipe", *_CONDITIONS)}
    return chosen | fixed


def rows_of(runs: Sequence[Run]) -> list[Row]:
    """One row for each run, in the order given."""
    rows = []
    setups = tell_apart(runs)
    for run, name, setup in zip(
        runs, short_names([run.folder for run in runs]), setups, strict=True
    ):
        whole = whole_model(run)
        weight, state = whole.per_weight if whole else (None, None)
        step = run.summary["time"]["ms_per_step"] if run.summary else None
        rows.append(Row(name, run, metric_of(run), weight, state, step, setup))
    return rows


def tell_apart(runs: Sequence[Run]) -> list[str]:
    """Name of every run's set-up, with the settings in which it differs from its namesakes."""
    names = []
    for run in runs:
        name = setup_name(run)
        namesakes = [
            settings_of(other)
            for other in runs
            if setup_name(other) == name and other.config["recipe"] == run.config["recipe"]
        ]
        own = settings_of(run)
        unlike = [
            f"{key.replace('_', ' ')} {own[key]}"
            for key in own
            if key != "data" and any(other.get(key) != own[key] for other in namesakes)
        ]
        names.append(", ".join([name, *unlike]))
    return names


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
    recipes: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        settings = settings_of(row.run)
        compared = _OPTIMIZER_OPTIONS | (row.run.config.get("layers") or {}).keys()
        conditions = {key: settings[key] for key in settings if key not in compared}
        recipes.setdefault(row.run.config["recipe"], []).append(conditions)
    notes = []
    for recipe, same in recipes.items():
        keys = dict.fromkeys(key for conditions in same for key in conditions)
        unlike = [
            key.replace("_", " ")
            for key in keys
            if any(conditions.get(key) != same[0].get(key) for conditions in same)
        ]
        if unlike:
            notes.append(
                f"Runs of {recipe} differ in {', '.join(unlike)}: "
                "their figures are not of equal conditions."
            )
    return notes
