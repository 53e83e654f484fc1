"""Runs of a list of cells: which have ended, and running the others."""

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from rung.train.config import Config
from rung.train.display import Display
from rung.train.fingerprint import fingerprint
from rung.train.loop import run
from rung.train.sweep_grid import Cell
from rung.train.sweep_processes import begun, run_in_processes


def ended(folder: Path, config: Config) -> dict[str, Any] | None:
    """The summary of a cell that has ended, None if it has to run.

    Raises:
        ValueError: The folder holds a run of another configuration, or a damaged file.
    """
    if not begun(folder):
        return None
    recorded = read_object(folder / "config.json")
    expected = json.loads(json.dumps(fingerprint(config) | {"epochs": config.epochs}))
    # A fingerprint has the share that None stands for; the run has written None.
    expected["warmup_share"] = config.options.warmup_share
    if config.lr is None:
        # The run has written which one LMD took; epochs and settings are compared anyway.
        del expected["lr"]
    for name, value in expected.items():
        places = (recorded, recorded.get("options") or {}, recorded.get("layers") or {})
        found = [place[name] for place in places if isinstance(place, dict) and name in place]
        # An option that an older Rung did not have is not written there.
        if found and value not in found:
            raise ValueError(
                f"{folder} holds a run of another configuration: {name} is {found[0]!r} there and "
                f"{value!r} here. Move the folder away, or give another one by --out."
            )
    path = folder / "summary.json"
    if not path.exists():
        return None
    summary = read_object(path)
    if not {"status", "metric", "loss", "bytes", "time"} <= summary.keys():
        raise ValueError(
            f"{path} must be what a run wrote at its end; got the keys "
            f"{', '.join(summary) or '(none)'}. Delete it, and the run goes on from its checkpoint."
        )
    return summary


def run_cells(
    cells: Sequence[Cell], folder: Path, jobs: int, display: Display
) -> Generator[Cell, None, None]:
    """Run cells, none of which has ended; yields each when its run folder is complete.

    Args:
        cells: What to run.
        folder: Where the run folders lie.
        jobs: Runs at a time; more than one are processes of their own.
        display: Receives the steps, with one job.

    Raises:
        ValueError: A run was refused.
    """
    if jobs > 1:
        yield from run_in_processes(cells, folder, jobs)
        return
    steps = _Steps(display)
    for cell in cells:
        out = folder / cell.name
        try:
            run(cell.config, out, resume=begun(out), display=steps, command=cell.command)
        except ValueError as error:
            raise ValueError(f"{cell.label}: {error}") from error
        yield cell


class _Steps:
    """A run's display inside a sweep's: its steps, without its lines."""

    def __init__(self, display: Display) -> None:
        self.start, self.step, self.stop = display.start, display.step, display.stop

    def line(self, text: str) -> None:
        """Leave out a line."""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object that a run or a sweep wrote.

    Raises:
        ValueError: The file holds anything else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds {type(value).__name__}, not an object")
    except ValueError as error:
        raise ValueError(
            f"{path} must be a JSON file that Rung wrote; {error}. Restore it from a copy, or move "
            "its folder away to run it again."
        ) from error
    return value
