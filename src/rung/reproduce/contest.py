"""What an experiment consists of: contestants on tasks, at a size for each budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["table", "rates", "lines", "arena", "variants"]
KINDS: tuple[Kind, ...] = ("table", "rates", "lines", "arena", "variants")
"""What a page shows: contestants, every learning rate as a result, groups over places, contestants
against the first one by bytes, or many changes of the first one."""

Judged = Literal["metric", "loss"]

Budget = Literal["smoke", "cpu", "full"]
BUDGETS: tuple[Budget, ...] = ("smoke", "cpu", "full")
"""smoke: does it run, says nothing; cpu: two cores and hours; full: as published, on a GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """One way to train.

    Attributes:
        label: In tables and figures.
        optimizer: As of ``rung train``.
        format: Likewise; None leaves the recipe's own.
        settings: ``"key=value"`` each, as ``rung train --set``.
        rates: Learning rates that are tried; None: `lr`, untried.
        lr: Learning rate where none is tried; None: the recipe's own.
        schedule: Instead of the task's.
        scales_from: Label of another contestant, whose run of the same seed comes first and whose
            largest weights are this one's W_max.
        group: What a figure draws as one line, with `place` on its horizontal axis.
        place: Likewise.
    """

    label: str
    optimizer: str
    format: str | None = None
    settings: tuple[str, ...] = ()
    rates: tuple[float, ...] | None = None
    lr: float | None = None
    schedule: str | None = None
    scales_from: str | None = None
    group: str = ""
    place: float = 0.0

    def __post_init__(self) -> None:
        if self.scales_from is not None and self.rates is not None:
            raise ValueError(
                f"{self.label!r} takes its W_max from final runs, which trials of learning rates "
                f"come before; so `rates` must be None; got {self.rates}. Leave one of the two "
                "out."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much of a task is trained.

    Attributes:
        words: The same for people; tables print it.
        epochs: Passes, or what the recipe calls so; None: the recipe's own.
        schedule: Of the learning rates; None: the recipe's own.
        settings: Of the recipe, ``"key=value"`` each.
        tuning_epochs: Of the trials of learning rates; None: as many.
        tuning_settings: More settings of the trials.
        seeds: One run each.
    """

    words: str
    epochs: int | None = None
    schedule: str | None = None
    settings: tuple[str, ...] = ()
    tuning_epochs: int | None = None
    tuning_settings: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One task of an experiment.

    Attributes:
        name: For ``--rows``.
        folder: Of its runs, which it shares with rows of the same; empty: its name.
        title: Data and model, for people.
        recipe: As of ``rung train``.
        unit: Of the metric, as a column's head says it.
        factor: From the metric to that unit.
        data: Key of the folder of its data; None: the data is embedded.
        contestants: In the order of the columns.
        sizes: For every budget.
        published: Figure of the paper by a contestant's label, as printed there.
        remark: What a reader has to know of this row.
        classifier: Whether its metric needs a trained classifier of CIFAR-10.
        judged: What contestants and trials are judged by: the recipe's metric, or its loss on the
            data that the metric is of.
    """

    name: str
    folder: str = ""
    title: str
    recipe: str
    unit: str
    factor: float = 1.0
    data: str | None = None
    contestants: tuple[Contestant, ...]
    sizes: Mapping[Budget, Size]
    published: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""
    classifier: bool = False
    judged: Judged = "metric"


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """An experiment.

    Attributes:
        name: As of ``rung reproduce``.
        title: One line.
        source: Paper, table or figure.
        kind: What its page shows: ``table``, ``rates`` (every learning rate is a result),
            ``lines`` (groups over places), ``arena`` (against the first contestant, by bytes) or
            ``variants`` (many changes of the first contestant).
        rows: Tasks.
        across: What the horizontal axis of a figure of lines is.
    """

    name: str
    title: str
    source: str
    kind: Kind
    rows: tuple[Row, ...]
    across: str = ""


DATA: dict[str, str] = {
    "cifar10": "CIFAR-10's python batches",
    "cifar100": "CIFAR-100's python version",
    "imagenet": "a folder of images in ImageNet's layout, train/CLASS and val/CLASS",
    "wikitext2": "wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens of wikitext-2-v1",
    "fashion": "Fashion-MNIST's four IDX files",
    "tokens": "train.bin, val.bin and meta.pkl as nanoGPT's prepare.py writes them",
}
"""Keys of data folders and what they hold."""
