"""sweep.html of a sweep: one figure, the table of its settings and all of its runs."""

from pathlib import Path
from typing import Any

from rung.report import numbers, style, sweep_plot, sweep_table
from rung.report.atomic import write_atomically
from rung.report.page import dict_rows, render
from rung.report.sweep_data import Sweep, read_sweep

_LISTED = ("optimizer", "lr", "bits", "seed")


def write_sweep(folder: str | Path) -> Path:
    """Write sweep.html and sweep.png into the folder of a sweep, ended or not.

    Args:
        folder: A folder that `rung sweep` wrote; sweep.json is all that is read.

    Returns:
        Path of sweep.html.

    Raises:
        ValueError: There is no sweep.json, or it is damaged (see `read_sweep`).
        ImportError: matplotlib or Jinja2 is missing; the text names the pip command.
    """
    sweep = read_sweep(folder)
    with style.style():
        figure = sweep_plot.draw(sweep)
        picture = style.to_svg(figure, "sweep", sweep_table.title(sweep))
        png = style.to_png(figure)
    page = render("sweep.html", page_of(sweep, picture)).encode()
    write_atomically(sweep.folder / "sweep.png", png)
    target = sweep.folder / "sweep.html"
    write_atomically(target, page)
    return target


def page_of(sweep: Sweep, picture: str) -> dict[str, Any]:
    """Every value that the template shows, ready to print."""
    names = sweep_table.headings(sweep)
    best = sweep.best(sweep.settings)
    return {
        "title": f"Sweep of {sweep.record['recipe']}",
        "heading": sweep_table.title(sweep).partition(": ")[2],
        "chips": chips_of(sweep),
        "picture": picture,
        "x": sweep_plot.x_name(sweep),
        "best_lr": sweep.varies("bits") and sweep.varies("lr"),
        "headings": [(name, name in sweep_table.RIGHT) for name in names],
        "rows": [(sweep_table.cells(sweep, s), s == best) for s in sweep.settings],
        "runs": [run_row(sweep, cell) for cell in sweep.cells],
        "grid": grid_rows(sweep),
        "command": sweep.record["command"],
        "commands": [(cell["folder"], cell["command"]) for cell in sweep.cells],
    }


def chips_of(sweep: Sweep) -> list[tuple[str, str]]:
    """Class and text of the labels at the head of the page."""
    chips = []
    for status in ("finished", "diverged", "unfinished"):
        count = sum(cell["status"] == status for cell in sweep.cells)
        if count:
            chips.append((status, f"{count} {status}"))
    seconds = sum(cell["seconds"] or 0.0 for cell in sweep.cells)
    chips.append(("", f"{numbers.duration(seconds)} of training"))
    return chips


def run_row(sweep: Sweep, cell: dict[str, Any]) -> list[str]:
    """One run in the table of all runs."""
    name = sweep.metric.name if sweep.metric else ""
    status = cell["status"] + (f": {cell['reason']}" if cell["reason"] else "")
    return [
        cell["folder"],
        numbers.metric(name, cell["final"]),
        numbers.metric(name, cell["best"]),
        numbers.significant(cell["ms_per_step"]),
        numbers.duration(cell["seconds"]),
        status,
    ]


def grid_rows(sweep: Sweep) -> list[tuple[str, str]]:
    """The grid as rows of text; what was not given is the recipe's own."""
    grid = sweep.record["grid"]
    listed = {key: ", ".join(f"{value}" for value in grid[key] or ()) or None for key in _LISTED}
    rest = {key: value for key, value in grid.items() if key not in (*_LISTED, "set")}
    settings = grid.get("set") or {}
    return dict_rows(listed | rest | settings)
