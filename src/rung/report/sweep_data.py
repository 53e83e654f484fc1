"""Reading sweep.json: its cells, and what the seeds of one setting have in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rung.report import schema
from rung.report.facts import Metric
from rung.report.run import check_version, read_object

FILE = "sweep.json"

_NUMBER = (int, float)
_NULLABLE = schema.Maybe(_NUMBER)

SWEEP = {
    "format_version": int,
    "recipe": str,
    "command": str,
    "grid": {
        "optimizer": [str],
        "lr": schema.Maybe([_NUMBER]),
        "bits": schema.Maybe([int]),
        "seed": [int],
    },
    "metric": schema.Maybe({"name": str, "split": str, "higher_is_better": bool}),
    "cells": [
        {
            "folder": str,
            "optimizer": str,
            "lr": _NULLABLE,
            "bits": schema.Maybe(int),
            "seed": int,
            "status": str,
            "reason": schema.Maybe(str),
            "final": _NULLABLE,
            "best": _NULLABLE,
            "weights_per_weight": _NULLABLE,
            "state_per_weight": _NULLABLE,
            "ms_per_step": _NULLABLE,
            "seconds": _NULLABLE,
            "command": str,
        }
    ],
}
"""What sweep.json must hold."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The runs of a sweep that differ in nothing but their seed."""

    optimizer: str
    lr: float | None
    bits: int | None
    """Bits that a weight keeps after an update; None where the sweep does not vary them."""
    cells: tuple[dict[str, Any], ...]

    @property
    def finals(self) -> list[float]:
        """Final metric of the runs that finished."""
        found = (cell["final"] for cell in self.cells if cell["status"] == "finished")
        return [value for value in found if value is not None]

    @property
    def mean(self) -> float | None:
        """Mean of the final metric over the runs that finished."""
        return sum(self.finals) / len(self.finals) if self.finals else None

    def count(self, status: str) -> int:
        """Number of runs with a status."""
        return sum(cell["status"] == status for cell in self.cells)

    def average(self, key: str) -> float | None:
        """Mean of one of the cells' numbers, where it is known."""
        known = [cell[key] for cell in self.cells if cell[key] is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the folder of a sweep says."""

    folder: Path
    record: dict[str, Any]
    """sweep.json."""
    settings: tuple[Setting, ...]
    """By optimizer in the order of the grid, then by learning rate, then by bits."""

    @property
    def cells(self) -> list[dict[str, Any]]:
        """One dictionary a run, in the order of the grid."""
        cells: list[dict[str, Any]] = self.record["cells"]
        return cells

    @property
    def optimizers(self) -> list[str]:
        """Names of the optimizers, in the order of the grid."""
        return list(dict.fromkeys(cell["optimizer"] for cell in self.cells))

    @property
    def metric(self) -> Metric | None:
        """What the runs are judged by; None before the first has ended."""
        found = self.record["metric"]
        if found is None:
            return None
        return Metric(found["name"], found["split"], found["higher_is_better"], None, None)

    def varies(self, key: str) -> bool:
        """Whether the grid lists more than one value of ``"lr"``, ``"bits"`` or ``"seed"``."""
        return len(self.record["grid"][key] or ()) > 1

    def best(self, settings: Sequence[Setting]) -> Setting | None:
        """The setting with the best mean; None where no run has finished."""
        choose: Callable[..., Setting] = (
            max if self.metric and self.metric.higher_is_better else min
        )
        known = [setting for setting in settings if setting.mean is not None]
        # A mean over all seeds beats one over those that did not diverge.
        whole = [setting for setting in known if len(setting.finals) == len(setting.cells)]
        return choose(whole or known, key=lambda s: s.mean) if known else None


def is_sweep(folder: str | Path) -> bool:
    """Whether a folder is one that `rung sweep` wrote."""
    return (Path(folder) / FILE).is_file()


def read_sweep(folder: str | Path) -> Sweep:
    """Read and check the folder of a sweep, which need not have ended.

    Args:
        folder: A folder that `rung sweep` wrote.

    Returns:
        The sweep.

    Raises:
        ValueError: There is no sweep.json, or it is damaged or of a newer version. The text names
            the file and the way out.
    """
    path = Path(folder)
    record = read_object(path / FILE)
    if record is None:
        raise ValueError(
            f"a sweep's folder must hold {FILE}; got {path} without one. Pass a folder that "
            "`rung sweep` wrote."
        )
    check_version(record, path / FILE)
    schema.check(record, SWEEP, str(path / FILE))
    groups: dict[tuple[str, float, int | None], list[dict[str, Any]]] = {}
    for cell in record["cells"]:
        groups.setdefault((cell["optimizer"], cell["lr"], cell["bits"]), []).append(cell)
    order = list(dict.fromkeys(cell["optimizer"] for cell in record["cells"]))
    keys = sorted(groups, key=lambda key: (order.index(key[0]), key[1], key[2] or 0))
    return Sweep(path, record, tuple(Setting(*key, tuple(groups[key])) for key in keys))
