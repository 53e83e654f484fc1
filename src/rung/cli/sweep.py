"""``rung sweep``: a grid of runs in one folder."""

import sys
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from rung import report
from rung.cli.main import FINISHED
from rung.train import Display, Grid, display_for
from rung.train import sweep as run_sweep
from rung.train.config import OPTIMIZERS, default_optimizer
from rung.train.display import Plain, Silent

T = TypeVar("T", str, int, float)

_KINDS: dict[type, tuple[str, str]] = {
    str: ("names", "sgd,adamw"),
    int: ("integers", "0,1,2"),
    float: ("numbers", "0.01,0.02"),
}


class Lines(Silent):
    """A line of text for each run that ends, and below it the steps of the run under way."""

    def line(self, text: str) -> None:
        """Print a line, as it is."""
        typer.echo(text)

    def start(self, steps: int, done: int) -> None:
        """A bar for one run, or now and then a line where no terminal is."""
        self.run: Display = display_for(sys.stdout)
        if isinstance(self.run, Plain):
            self.run.seconds = 60.0
        self.run.start(steps, done)

    def step(self, step: int, loss: float, lr: float) -> None:
        """Move the bar."""
        self.run.step(step, loss, lr)

    def stop(self) -> None:
        """Remove the bar."""
        self.run.stop()


def sweep(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="Name of a recipe; see `rung recipes`.")],
    optimizer: Annotated[
        str | None, typer.Option(metavar="A,B,...", help=f"Some of {', '.join(OPTIMIZERS)}.")
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(metavar="X,Y,...", help="Learning rates; default: the recipe's own."),
    ] = None,
    bits: Annotated[
        str | None,
        typer.Option(
            metavar="M,N,...",
            help="Bits that a weight keeps after every update: as lnsN, with bbit-madam as "
            "ladderN, with signed-madam as sinhN; 32 is float32 (lmd: 32 only).",
        ),
    ] = None,
    seed: Annotated[str, typer.Option(metavar="I,J,...", help="Seeds.")] = "0",
    format: Annotated[str | None, typer.Option(help="As of `rung train`, for all runs.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="plateau, cosine, linear or constant.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder (or text file) of the data.")
    ] = None,
    device: Annotated[str, typer.Option(help="A torch device, e.g. cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads of a run.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option, for the runs that have it."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default sweeps/RECIPE.")] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time, as processes of their own.")] = 1,
) -> int:
    """Run a grid of optimizers, learning rates, bits and seeds; the same command goes on."""
    grid = Grid(
        recipe=recipe,
        optimizers=_listed("--optimizer", optimizer or default_optimizer(format), str),
        lrs=None if lr is None else _listed("--lr", lr, float),
        bits=None if bits is None else _listed("--bits", bits, int),
        seeds=_listed("--seed", seed, int),
        format=format,
        epochs=epochs,
        schedule=schedule,
        data_dir=None if data_dir is None else str(data_dir),
        device=device,
        threads=threads,
        settings=tuple(settings or ()),
    )
    folder = Path("sweeps") / recipe if out is None else out
    run_sweep(grid, folder, jobs=jobs, display=Lines(), command=context.obj)
    page = report.write_sweep(folder)
    typer.echo(report.sweep_table(report.read_sweep(folder)))
    typer.echo(f"report: {page}")
    return FINISHED


def _listed(flag: str, text: str, kind: type[T]) -> tuple[T, ...]:
    """The values of a comma list."""
    what, example = _KINDS[kind]
    words = [word.strip() for word in text.split(",")]
    try:
        if not all(words):
            raise ValueError
        return tuple(kind(word) for word in words)
    except ValueError:
        raise ValueError(
            f"`{flag}` must list {what} with commas between them, such as {example}; got {text!r}."
        ) from None
