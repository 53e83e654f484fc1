"""The commands and their flags; a test freezes the list."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rung import report
from rung._version import __version__
from rung.cli.bench import bench
from rung.cli.energy import energy
from rung.cli.hardware import hardware
from rung.cli.main import DIVERGED, FINISHED
from rung.cli.reproduce import reproduce
from rung.cli.sweep import sweep
from rung.train import RECIPES, Config, display_for, get_recipe, run, with_settings
from rung.train.config import DEFAULT_OPTIMIZER, OPTIMIZERS, default_optimizer

app = typer.Typer(
    name="rung",
    help="Train neural networks whose weights live on a logarithmic ladder.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rung {__version__}")
        raise typer.Exit


@app.callback()
def rung(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Train neural networks whose weights live on a logarithmic ladder."""


@app.command("recipes")
def list_recipes() -> None:
    """List what can be trained."""
    rows = [("recipe", "metric", "model", "data")]
    rows += [(recipe.name, recipe.metric, recipe.model, recipe.data) for recipe in RECIPES.values()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for *cells, last in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        typer.echo("  ".join([*padded, last]))


@app.command()
def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; see `rung recipes`.")],
    optimizer: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(OPTIMIZERS)}; default {DEFAULT_OPTIMIZER}, with an LNS in "
            "--format lns-madam, with a sinh ladder or a pair of ladders signed-madam, with a "
            "float or MX format lmd."
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="bbit-madam: ladder of the weights, ladder2 to ladder16, or e.g. ladder8+range30; "
            "signed-madam: sinh ladder of the weights, sinh4 to sinh12, or e.g. sinh8+knee0.1, "
            "or a pair of ladders, pair8 to pair16. "
            "All others: format in which every layer computes: an LNS (lns4 to lns16 or e.g. "
            "lns6_b4), a float (bf16, fp8_e4m3, ...) or an MX format (mxfp8_e4m3, mxfp6_e3m2, "
            "mxfp4, ...); none computes in float32."
        ),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 0,
    schedule: Annotated[
        str | None, typer.Option(help="plateau, cosine, linear or constant.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder (or text file) of the data.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default runs/RECIPE-OPTIMIZER-seedN.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    device: Annotated[str, typer.Option(help="A torch device, e.g. cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of recipe, optimizer, layers."),
    ] = None,
) -> int:
    """Train a recipe and write a run folder with its report."""
    config = get_recipe(recipe).configure(optimizer or default_optimizer(format))
    if format is not None:
        config = replace(config, format=None if format == "none" else format)
    given = {
        "lr": lr,
        "epochs": epochs,
        "schedule": schedule,
        "data_dir": None if data_dir is None else str(data_dir),
        "threads": threads,
    }
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    config = replace(config, seed=seed, device=device, **changes)
    config = with_settings(config, settings or [])
    folder = default_folder(config) if out is None else out
    summary = run(
        config, folder, resume=resume, display=display_for(sys.stdout), command=context.obj
    )
    page = report.write_report(folder)
    if summary["status"] == "diverged":
        typer.echo(f"diverged: {summary['reason']}; run folder {folder}, report {page}", err=True)
        return DIVERGED
    typer.echo(_outcome(summary))
    typer.echo(f"report: {page}")
    return FINISHED


app.command("sweep")(sweep)
app.command("energy")(energy)
app.command("bench")(bench)
app.command("reproduce")(reproduce)
app.add_typer(hardware, name="hardware")


@app.command("report")
def make_report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN...")],
) -> None:
    """Rewrite the page of one run or sweep, or compare several runs."""
    if len(runs) == 1:
        write = report.write_sweep if report.is_sweep(runs[0]) else report.write_report
        typer.echo(f"report: {write(runs[0])}")
        return
    typer.echo(report.comparison_table(report.compare(runs)))
    typer.echo(f"comparison: {report.comparison_path(runs)}")


def default_folder(config: Config) -> Path:
    """``runs/RECIPE-OPTIMIZER[-FORMAT]-seedN`` under the current folder."""
    parts = [config.recipe, config.optimizer, config.format, f"seed{config.seed}"]
    return Path("runs") / "-".join(part for part in parts if part)


def _outcome(summary: dict[str, Any]) -> str:
    metric, size, time = summary["metric"], summary["bytes"], summary["time"]
    speed = "" if time["ms_per_step"] is None else f", {time['ms_per_step']:.2f} ms a step"
    averaged = summary.get("averaged")
    mean = "" if averaged is None else f" of the mean over {averaged['steps']} steps' weights"
    return (
        f"{metric['split']} {metric['name']} {metric['final']:.4f} (best {metric['best']:.4f})"
        f"{mean}, "
        f"{size['weights_per_weight']:.2f} bytes a weight and {size['state_per_weight']:.2f} of "
        f"optimizer state{speed}, {time['steps']} steps in {time['seconds']:.1f} s"
    )
