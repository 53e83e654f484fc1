"""``rung bench``: every row of the table of speed and memory, or some of them."""

import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from rung.bench import Setting, rows_of, run, setting
from rung.cli.main import FINISHED
from rung.extras import require

_FOLDER = Path("benchmarks/results")


class Lines:
    """A line for every row, and on a terminal a bar below them that says what is measured."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.task: Any = None
        if sys.stdout.isatty():
            rich = require("rich.progress")
            columns = (
                rich.BarColumn(),
                rich.MofNCompleteColumn(),
                rich.TextColumn("{task.description}"),
            )
            self.bar = rich.Progress(*columns, transient=True)

    def begin(self, name: str, done: int, count: int) -> None:
        """Move the bar."""
        if self.bar is None:
            return
        if self.task is None:
            self.task = self.bar.add_task(name, total=count)
            self.bar.start()
        self.bar.update(self.task, completed=done, description=name)

    def end(self, row: dict[str, Any], seconds: float) -> None:
        """Print the row."""
        line = f"{row['name']:24} {_figure(row)}  ({seconds:.0f} s)"
        if self.bar is None:
            typer.echo(line)
        else:
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.stop()


def _figure(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"not measured: {row['error']}"
    first = row.get("one_thread") or row.get("device") or {}
    value = row.get("value", (row.get("share") or first.get("ratio") or {}).get("median"))
    targets = [
        f"{word} {row[key]:g}"
        for key, word in (("must", "must"), ("reach", "reach for"))
        if row[key] is not None
    ]
    met = {"reach": "reached", "must": "must met", "none": "NOT met"}.get(row.get("met", ""), "")
    return "  ".join(part for part in (f"{value:8.3f}", ", ".join(targets), met) if part)


def bench(
    context: typer.Context,
    rows: Annotated[
        list[str] | None, typer.Argument(help="Some of --list; default: all.", metavar="ROW...")
    ] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="List the rows and stop.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes: tests the code, says nothing about speed.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda for the table of GPUs.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of the wall times; CPU times are of one.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file; default benchmarks/results/bench.json. The table is beside."),
    ] = None,
) -> int:
    """Measure speed and memory against peers; write JSON after every row, and a table."""
    chosen = rows_of(rows or [], device)
    if list_rows:
        width = max(len(row.name) for row in chosen)
        for row in chosen:
            typer.echo(f"{row.name:{width}}  {row.title}")
        return FINISHED
    path = default_path(device, quick=quick, part=bool(rows)) if out is None else out
    lines = Lines()
    try:
        result = run(
            chosen,
            setting_of(device, quick),
            path,
            threads=threads,
            command=context.obj,
            progress=lines,
        )
    finally:
        lines.stop()
    missed = sum(row.get("met") == "none" or "error" in row for row in result["rows"])
    typer.echo(
        f"{len(result['rows'])} rows, {missed} of them not met or not measured; "
        f"{path} and {path.with_suffix('.md')}"
    )
    return FINISHED


def setting_of(device: str, quick: bool) -> Setting:
    """Sizes for a device.

    Raises:
        ValueError: Neither cpu nor cuda, or no GPU that this PyTorch can use.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"`device` must be 'cpu' or 'cuda'; got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "`device='cuda'` needs a GPU that this PyTorch can use, and there is none: torch "
            f"{torch.__version__}. Measure the CPU instead: rung bench."
        )
    if quick:
        return setting.quick(device)
    return setting.gpu(device) if device == "cuda" else Setting()


def default_path(device: str, *, quick: bool, part: bool) -> Path:
    """Where results go: only a whole run of full size replaces the file that the docs quote."""
    words = ["bench", "gpu" if device == "cuda" else "", "quick" if quick else ""]
    words.append("part" if part else "")
    return _FOLDER / ("-".join(word for word in words if word) + ".json")
