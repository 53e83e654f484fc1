"""``rung reproduce``: the papers' tables and figures, run again."""

import os
from pathlib import Path
from typing import Annotated, get_args

import typer

from rung import report
from rung.cli.main import FINISHED
from rung.cli.sweep import Lines
from rung.reproduce import (
    BUDGETS,
    CONTESTS,
    DATA,
    ENERGY,
    NAMES,
    Budget,
    Setup,
    energy_results,
    run_contest,
)


def reproduce(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")],
    budget: Annotated[
        str,
        typer.Option(
            metavar="|".join(get_args(Budget)),
            help="smoke: does it run; cpu: smaller, hours on two cores; full: as published.",
        ),
    ] = "smoke",
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=FOLDER", help=f"Data: {', '.join(DATA)}. Others are not run."),
    ] = None,
    rows: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Some tasks; default: all with data.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of all experiments.")] = Path("reproduce"),
    device: Annotated[str, typer.Option(help="A torch device, e.g. cpu or cuda.")] = "cpu",
    jobs: Annotated[
        int | None, typer.Option(help="Runs at a time; default: one a processor, one on a GPU.")
    ] = None,
) -> int:
    """Run an experiment of the papers again; the same command goes on."""
    if name not in NAMES:
        raise ValueError(f"Unknown experiment {name!r}; the experiments are: {', '.join(NAMES)}.")
    if budget not in BUDGETS:
        raise ValueError(f"Unknown budget {budget!r}; the budgets are: {', '.join(BUDGETS)}.")
    if name == ENERGY:
        record = energy_results(budget, out, context.obj)
    else:
        on_cpu = device == "cpu"
        setup = Setup(budget=budget, data=_folders(data or []), device=device, threads=None)
        many = jobs if jobs is not None else ((os.cpu_count() or 1) if on_cpu else 1)
        chosen = [word.strip() for word in rows.split(",")] if rows is not None else []
        record = run_contest(
            CONTESTS[name], setup, out, rows=chosen, jobs=many, display=Lines(), command=context.obj
        )
    page = report.write_reproduced(record, out / budget)
    typer.echo(f"results: {out / budget / f'{name}.json'}")
    typer.echo(f"page: {page}")
    return FINISHED


def _folders(given: list[str]) -> dict[str, Path]:
    """Folders by key, absolute: runs are compared by them."""
    found: dict[str, Path] = {}
    for text in given:
        key, equals, folder = text.partition("=")
        if not equals or not folder:
            raise ValueError(f"`--data` must have the form KEY=FOLDER; got {text!r}.")
        found[key] = Path(folder).resolve()
    return found
