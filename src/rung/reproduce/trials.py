"""From an experiment and a budget to runs: their configurations, folders and commands."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rung.reproduce import tasks
from rung.reproduce.contest import DATA, Budget, Contest, Contestant, Row, Size
from rung.train import recipes
from rung.train.config import Config, with_settings
from rung.train.sweep_grid import Cell

TUNING_SEED = 10
"""Of the trials of learning rates; no result has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One run of an experiment.

    Attributes:
        row: Its task.
        contestant: Who trains.
        lr: Learning rate; None: the recipe's own.
        seed: Its seed.
        cell: What `rung.train` runs.
    """

    row: Row
    contestant: Contestant
    lr: float | None
    seed: int
    cell: Cell


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """Where and how much.

    Attributes:
        budget: One of `BUDGETS`.
        data: Folder by the keys of `DATA`.
        device: A torch device.
        threads: CPU threads of a run.
        classifier: Run folder of a classifier, for rows that need one.
        folder: Where the runs lie, for contestants that look at another one's.
    """

    budget: Budget
    data: Mapping[str, Path]
    device: str = "cpu"
    threads: int | None = 1
    classifier: Path | None = None
    folder: Path | None = None


def runnable(contest: Contest, setup: Setup, only: Sequence[str]) -> list[Row]:
    """The rows whose data is there.

    Raises:
        ValueError: An unknown row or data key, a folder that isn't there, or not one row can run;
            the text says what to give.
    """
    names = [row.name for row in contest.rows]
    for name in only:
        if name not in names:
            raise ValueError(
                f"Unknown row {name!r} of {contest.name}; the rows are: {', '.join(names)}."
            )
    for key, folder in setup.data.items():
        if key not in DATA:
            raise ValueError(f"Unknown data {key!r}; the keys are: {', '.join(DATA)}.")
        if not folder.exists():
            raise ValueError(
                f"The data of {key!r} must exist; got {folder}: nothing there. Give {DATA[key]}."
            )
    asked = [row for row in contest.rows if not only or row.name in only]
    found = [row for row in asked if why_not(row, setup) is None]
    if not found:
        raise ValueError(
            f"{contest.name} must have data for at least one row; got none for "
            f"{', '.join(row.name for row in asked)}. {why_not(asked[0], setup)}"
        )
    return found


def why_not(row: Row, setup: Setup) -> str | None:
    """Why a row can't run, with the way out; None if it can."""
    if row.data is None or row.data in setup.data:
        return None
    return f"Give {DATA[row.data]} by --data {row.data}=FOLDER."


def tuning(row: Row, setup: Setup) -> list[Trial]:
    """Every contestant's learning rates, at a seed of their own."""
    short = _short(row, setup)
    return [
        _trial(row, contestant, rate, TUNING_SEED, short, setup, "tuning")
        for contestant in row.contestants
        for rate in contestant.rates or ()
    ]


def finals(row: Row, setup: Setup, chosen: Mapping[str, float]) -> list[Trial]:
    """Every contestant at its learning rate, for every seed."""
    size = row.sizes[setup.budget]
    return [
        _trial(
            row, contestant, chosen.get(contestant.label, contestant.lr), seed, size, setup, "runs"
        )
        for seed in size.seeds
        for contestant in row.contestants
    ]


def grid(row: Row, setup: Setup) -> list[Trial]:
    """Every contestant at all its learning rates, for every seed."""
    size = row.sizes[setup.budget]
    return [
        _trial(row, contestant, rate, seed, size, setup, "rates")
        for seed in size.seeds
        for contestant in row.contestants
        for rate in contestant.rates or (contestant.lr,)
    ]


def _short(row: Row, setup: Setup) -> Size:
    """The size of trials."""
    size = row.sizes[setup.budget]
    return replace(
        size,
        epochs=size.tuning_epochs or size.epochs,
        settings=(*size.settings, *size.tuning_settings),
    )


def classifier_trial(setup: Setup) -> Trial:
    """The classifier whose features a generator is judged in."""
    contestant = Contestant(label="classifier", optimizer="sgd")
    judged = tasks.row("cifar10", contestants=(contestant,))
    return _trial(judged, contestant, None, 0, _short(judged, setup), setup, "classifier")


def _trial(
    row: Row, contestant: Contestant, lr: float | None, seed: int, size: Size, setup: Setup,
    stage: str,
) -> Trial:  # fmt: skip
    settings = [*size.settings, *contestant.settings]
    if row.classifier and setup.classifier is not None:
        settings.append(f"classifier={setup.classifier}")
    if contestant.scales_from is not None and setup.folder is not None:
        source = setup.folder / _run_name(stage, row, contestant.scales_from, "", seed)
        settings.append(f"scales_from={source}")
    config, words = _configured(row, contestant, lr, seed, size, setup, settings)
    rate = "" if lr is None or stage == "runs" else f"-lr{lr!r}"
    cell = Cell(
        name=_run_name(stage, row, contestant.label, rate, seed),
        label=f"{row.name}, {contestant.label}"
        + ("" if lr is None else f", lr {lr:g}")
        + f", seed {seed}",
        bits=None,
        config=config,
        command=shlex.join(words),
    )
    return Trial(row=row, contestant=contestant, lr=lr, seed=seed, cell=cell)


def _run_name(stage: str, row: Row, label: str, rate: str, seed: int) -> str:
    """A run's folder, below all runs'."""
    name = re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.")
    return f"{stage}/{row.folder or row.name}/{name}{rate}-seed{seed}"


def _configured(
    row: Row, contestant: Contestant, lr: float | None, seed: int, size: Size, setup: Setup,
    settings: Sequence[str],
) -> tuple[Config, list[str]]:  # fmt: skip
    """A configuration, and the ``rung train`` line that stands for it."""
    config = recipes.get(row.recipe).configure(contestant.optimizer)
    words = ["rung", "train", row.recipe, "--optimizer", contestant.optimizer]
    fmt = contestant.format
    if fmt is not None:
        config = replace(config, format=None if fmt == "none" else fmt)
    schedule = contestant.schedule or size.schedule
    folder = None if row.data is None else str(setup.data[row.data])
    changes = {"lr": lr, "epochs": size.epochs, "schedule": schedule, "data_dir": folder}
    known: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    config = replace(config, seed=seed, device=setup.device, threads=setup.threads, **known)
    settings = _own(config, settings)
    config = with_settings(config, settings)
    flags = {"--format": fmt, "--lr": lr, "--epochs": size.epochs, "--schedule": schedule}
    flags |= {"--seed": seed, "--data-dir": folder}
    flags |= {"--device": None if setup.device == "cpu" else setup.device}
    flags |= {"--threads": setup.threads}
    for flag, value in flags.items():
        words += [] if value is None else [flag, str(value)]
    for setting in settings:
        words += ["--set", setting]
    return config, words


def _own(config: Config, settings: Sequence[str]) -> list[str]:
    """Settings without bfloat16 where layers compute in a format, which then is what computes."""
    if config.compute_format is None:
        return list(settings)
    return [setting for setting in settings if not setting.startswith("precision=")]
