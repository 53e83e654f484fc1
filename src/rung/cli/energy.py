"""``rung energy``: what a training step and inference cost by format, as a model says."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rung import report
from rung.cli.main import FINISHED
from rung.hardware.energy import MODELS, Counts, architecture, count, load_costs
from rung.hardware.energy.record import FORMATS, energy_record
from rung.train import RECIPES, Config
from rung.train.config import DEFAULT_OPTIMIZER
from rung.train.environment import environment
from rung.train.files import write_json
from rung.train.task import Task

_SUFFIXES = (".json", ".png")


def energy(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help=f"Name of a recipe (see `rung recipes`), or one of {', '.join(MODELS)}.",
            metavar="RECIPE|MODEL",
        ),
    ],
    formats: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="fp32, tf32, fp16, bf16, fp8, mxfp6, mxfp4, int8, int4, lns8, lns6_b4, ...; all "
            "are compared with the first.",
        ),
    ] = ",".join(FORMATS),
    costs: Annotated[
        Path | None, typer.Option(help="Your own table of picojoules (TOML); default: 45 nm.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Examples a step; default: the recipe's, 1 for a model.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder (or text file) of the recipe's data.")
    ] = None,
    inference: Annotated[
        bool, typer.Option("--inference", help="The forward pass alone, no training step.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="FILE.json or FILE.png: both are written.", metavar="FILE")
    ] = None,
) -> int:
    """Estimate energy by format, pass, layer and part; a model, not a measurement."""
    chosen = _formats(formats)
    if out is not None and out.suffix not in _SUFFIXES:
        raise ValueError(
            f"`--out` must end in {' or '.join(_SUFFIXES)}; got {out}. Both files are written, so "
            f"{out.name}.json will do."
        )
    table = load_costs(costs)
    counts, size = counts_of(model, batch, data_dir, training=not inference)
    record = energy_record(f"{model}, batch of {size}", counts, chosen, table)
    typer.echo(report.energy_table(record))
    if out is not None:
        record |= {"command": context.obj, "environment": environment()}
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out.with_suffix(".json"), record)
        picture = report.write_energy_figure(record, out.with_suffix(".png"))
        typer.echo(f"{out.with_suffix('.json')} and {picture}")
    return FINISHED


def counts_of(
    name: str, batch: int | None, data_dir: Path | None, *, training: bool
) -> tuple[Counts, int]:
    """Counts of a recipe's or a known model, on the meta device, and the size of its batch.

    Raises:
        ValueError: No recipe and no model has this name, or its data isn't there.
    """
    if name in MODELS:
        if data_dir is not None:
            raise ValueError(
                f"`--data-dir` is for recipes; got it with model {name!r}. Leave it out."
            )
        size = 1 if batch is None else batch
        return count(*architecture(name, size), training=training), size
    if name not in RECIPES:
        raise ValueError(
            f"Unknown recipe or model {name!r}; the recipes are: {', '.join(RECIPES)}; the models "
            f"are: {', '.join(MODELS)}."
        )
    config = _config(name, batch, data_dir)
    task = RECIPES[name].build(config)
    size = config.options.batch_size
    try:  # shapes are all that counts
        return _counts(task, "meta", training), size
    except RuntimeError:  # a model that asks for values, such as those of its mask
        return _counts(task, "cpu", training), size


def _config(name: str, batch: int | None, data_dir: Path | None) -> Config:
    config = RECIPES[name].configure(DEFAULT_OPTIMIZER)
    options = config.options if batch is None else replace(config.options, batch_size=batch)
    return replace(config, options=options, data_dir=None if data_dir is None else str(data_dir))


def _counts(task: Task, device: str, training: bool) -> Counts:
    inputs, targets = (tensor.to(device) for tensor in task.probe())
    model = task.model().to(device)
    return count(model, inputs, lambda outputs: task.loss(outputs, targets), training=training)


def _formats(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    if not all(names):
        raise ValueError(
            "`--formats` must list names with commas between them, such as fp32,fp8,lns8; got "
            f"{text!r}."
        )
    return names
