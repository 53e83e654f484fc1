"""Sweeps: the runs of a grid in one folder, which goes on where it stopped."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rung.train import recipes
from rung.train.config import Config
from rung.train.device import find_device, own_process_state
from rung.train.display import Display, Silent
from rung.train.files import write_json
from rung.train.sweep_grid import Cell, Grid, cells_of, ignored_settings
from rung.train.sweep_runs import ended, read_object, run_cells

FORMAT_VERSION = 1
"""Version of sweep.json's layout."""

_FILE = "sweep.json"


def sweep(
    grid: Grid,
    out: str | Path,
    *,
    jobs: int = 1,
    display: Display | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Run a grid; every cell becomes a run folder of its own.

    Cells that have ended, finished or diverged, are not run again; one that has begun goes on from
    its checkpoint.

    Args:
        grid: What to run; all of its configurations are made before the first run.
        out: The sweep's folder: missing, empty, or of the same grid.
        jobs: Runs at a time; more than one are processes of their own. Their step times then
            include what they take from each other.
        display: Receives a line for each cell that ends, and with one job the cells' steps.
        command: The command line, for the record.

    Returns:
        Content of sweep.json, which is written after every cell.

    Raises:
        ValueError: A configuration, data, or a folder that doesn't fit; what is there stays.
        KeyboardInterrupt: Stopped by the user, after a checkpoint.
    """
    if jobs < 1:
        raise ValueError(f"`jobs` must be an integer at least 1; got {jobs}.")
    display, folder = display or Silent(), Path(out)
    cells = cells_of(grid)
    _check_folder(folder, grid)
    summaries = {cell.name: ended(folder / cell.name, cell.config) for cell in cells}
    waiting = [cell for cell in cells if summaries[cell.name] is None]
    for note in ignored_settings(grid, cells):
        display.line(note)
    if waiting:
        display.line(f"data: {_look_at_data(waiting[0].config)}")
    if len(waiting) < len(cells):
        display.line(f"{len(cells) - len(waiting)} of {len(cells)} runs have ended already")
    folder.mkdir(parents=True, exist_ok=True)
    record = _record(grid, cells, summaries, command)
    write_json(folder / _FILE, record)
    with closing(run_cells(waiting, folder, jobs, display)) as cells_done:
        for cell in cells_done:
            summary = read_object(folder / cell.name / "summary.json")
            summaries[cell.name] = summary
            record = _record(grid, cells, summaries, command)
            write_json(folder / _FILE, record)
            number = sum(found is not None for found in summaries.values())
            display.line(f"[{number}/{len(cells)}] {cell.label}: {_outcome(summary)}")
    return record


def _look_at_data(config: Config) -> str:
    """Read the data once before anything is written; the line that describes them."""
    device = find_device(config.device)
    with own_process_state(device, config.threads):
        return recipes.get(config.recipe).build(config).source


def _check_folder(folder: Path, grid: Grid) -> None:
    """Refuse a folder of anything else than this grid."""
    way_out = "Give the options of the first sweep, or another folder by --out."
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"A sweep needs a folder; {folder} is a file.")
    if not (folder / _FILE).exists():
        # Hidden files may be a file manager's, or what a killed sweep left of its first write.
        found = sorted(p.name for p in folder.glob("*") if not p.name.startswith("."))
        if found:
            raise FileExistsError(
                f"A sweep needs a folder that is empty or holds a sweep; {folder} holds "
                f"{', '.join(found[:4])} and no {_FILE}. Give another folder by --out."
            )
        return
    record = read_object(folder / _FILE)
    if record.get("format_version", 0) > FORMAT_VERSION:
        raise ValueError(
            f"{folder / _FILE} has format_version {record['format_version']}; this Rung reads up "
            f"to {FORMAT_VERSION}. Go on with the Rung that wrote it, or a newer one."
        )
    theirs = {"recipe": record.get("recipe")} | record.get("grid", {})
    ours = {"recipe": grid.recipe} | grid.record()
    differing = [
        f"{name} is {_show(theirs.get(name))} there and {_show(ours.get(name))} here"
        for name in dict.fromkeys([*ours, *theirs])
        if _unordered(theirs.get(name)) != _unordered(ours.get(name))
    ]
    if differing:
        raise ValueError(f"{folder} holds another sweep: {'; '.join(differing)}. {way_out}")


def _show(value: Any) -> str:
    if value is None or value == {}:
        return "not given"
    if isinstance(value, dict):
        return ",".join(f"{key}={text}" for key, text in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _unordered(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def _record(
    grid: Grid, cells: Sequence[Cell], summaries: dict[str, dict[str, Any] | None], command: str
) -> dict[str, Any]:
    """Content of sweep.json."""
    metrics = [summary["metric"] for summary in summaries.values() if summary]
    keys = ("name", "split", "higher_is_better")
    return {
        "format_version": FORMAT_VERSION,
        "recipe": grid.recipe,
        "command": command,
        "grid": grid.record(),
        "metric": {key: metrics[0][key] for key in keys} if metrics else None,
        "cells": [_row(cell, summaries[cell.name]) for cell in cells],
    }


def _row(cell: Cell, summary: dict[str, Any] | None) -> dict[str, Any]:
    config, done = cell.config, summary or {}
    metric, size, time = (done.get(key, {}) for key in ("metric", "bytes", "time"))
    return {
        "folder": cell.name,
        "optimizer": config.optimizer,
        "lr": config.lr,
        "bits": cell.bits,
        "seed": config.seed,
        "format": config.format,
        "update_format": getattr(config.optimizer_options, "update_format", None),
        "status": done.get("status", "unfinished"),
        "reason": done.get("reason"),
        "final": metric.get("final"),
        "best": metric.get("best"),
        "loss": done.get("loss", {"train": None, "eval": None}),
        "weights_per_weight": size.get("weights_per_weight"),
        "state_per_weight": size.get("state_per_weight"),
        "ms_per_step": time.get("ms_per_step"),
        "seconds": time.get("seconds"),
        "command": cell.command,
    }


def _outcome(summary: dict[str, Any]) -> str:
    taken = summary["time"]["seconds"]
    seconds = f"({taken:.1f} s)" if taken < 10 else f"({taken:.0f} s)"
    if summary["status"] == "diverged":
        return f"diverged: {summary['reason']} {seconds}"
    return f"{summary['metric']['name']} {summary['metric']['final']:.4f} {seconds}"
