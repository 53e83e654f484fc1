"""The grid of a sweep: lists of settings, and one complete configuration for each combination."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from rung import formats
from rung.train.config import RIVALS, STORES, Config, setting_names, with_settings
from rung.train.optimizer_options import LMDOptions
from rung.train.recipes import get as get_recipe

FLOAT_BITS = 32
"""Bits of an update that stand for float32 weights."""

_STORED_IN_CODES = (*STORES, "lns-madam")


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Every optimizer with every learning rate, number of bits and seed.

    Raises:
        ValueError: A list is empty or names a value twice.
    """

    recipe: str
    """Name of the recipe."""
    optimizers: tuple[str, ...]
    """Names of optimizers."""
    lrs: tuple[float, ...] | None = None
    """Learning rates; None: the recipe's own for each optimizer."""
    bits: tuple[int, ...] | None = None
    """Bits that a weight keeps after every update: an LNS (32: float32), for B-bit Madam a ladder,
    for signed Madam a sinh ladder; LMD takes 32 only. None: the recipe's own."""
    seeds: tuple[int, ...] = (0,)
    """Seeds."""
    format: str | None = None
    """`Config.format` of all runs, "none" for float32; None: each optimizer's own."""
    epochs: int | None = None
    """Passes over the training data; None: the recipe's own."""
    schedule: str | None = None
    """Name of a schedule; None: the recipe's own."""
    data_dir: str | None = None
    """Folder or file of the data."""
    device: str = "cpu"
    """A torch device."""
    threads: int | None = None
    """CPU threads of a run; None: the recipe's own."""
    settings: tuple[str, ...] = ()
    """``"key=value"`` each, as for `with_settings`; one that only some of the optimizers have
    applies to those."""

    def __post_init__(self) -> None:
        for name, values in self.axes().items():
            if values is None:
                continue
            if not values:
                raise ValueError(f"`{name}` must list at least one value; got none.")
            twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
            if twice:
                raise ValueError(
                    f"`{name}` must list every value once; got {twice[0]} {values.count(twice[0])} "
                    "times. Name it once."
                )

    def axes(self) -> dict[str, tuple[Any, ...] | None]:
        """The lists that are crossed, by the name of their flag."""
        return {
            "optimizer": self.optimizers,
            "lr": self.lrs,
            "bits": self.bits,
            "seed": self.seeds,
        }

    def record(self) -> dict[str, Any]:
        """What decides the results, as JSON values that are equal for equal grids."""
        axes = {name: values and list(values) for name, values in self.axes().items()}
        return axes | {
            "format": self.format,
            "epochs": self.epochs,
            "schedule": self.schedule,
            "data_dir": self.data_dir,
            "set": dict(map(_split, self.settings)),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One run of a sweep."""

    name: str
    """Its folder inside the sweep's."""
    label: str
    """For people: ``adamw lr=0.002 12 bits seed 1``."""
    bits: int | None
    """Its place on the grid's axis of bits."""
    config: Config
    """The run."""
    command: str
    """The ``rung train`` line of the same run."""


def cells_of(grid: Grid) -> list[Cell]:
    """All runs of a grid, seeds innermost.

    Raises:
        ValueError: A name is unknown, a value is out of range, or two of them contradict each
            other: no run can be made before all of them can.
    """
    cells = [cell for name in grid.optimizers for cell in _cells_of_optimizer(grid, name)]
    for setting in grid.settings:
        if not any(_split(setting)[0] in setting_names(cell.config) for cell in cells):
            with_settings(cells[0].config, [setting])  # its error lists the valid names
    return cells


def ignored_settings(grid: Grid, cells: list[Cell]) -> list[str]:
    """A sentence for each thing that the optimizers of a grid don't share."""
    notes = []
    formats_in_use = {c.config.optimizer: c.config.compute_format or "float32" for c in cells}
    if len(set(formats_in_use.values())) > 1:
        each = ", ".join(f"{name} in {fmt}" for name, fmt in formats_in_use.items())
        notes.append(f"layers compute differently: {each}; --format sets one for all")
    for setting in grid.settings:
        key = _split(setting)[0]
        takers = {c.config.optimizer for c in cells if key in setting_names(c.config)}
        if len(takers) < len(grid.optimizers):
            names = ", ".join(name for name in grid.optimizers if name in takers)
            notes.append(f"{setting} applies to {names} only")
    return notes


def _cells_of_optimizer(grid: Grid, optimizer: str) -> Iterator[Cell]:
    base = _base(grid, optimizer)
    for lr in grid.lrs or (base.lr,):
        for bits in grid.bits or (None,):
            for seed in grid.seeds:
                config = _with_bits(replace(base, lr=lr, seed=seed), bits, grid)
                # repr, not %g: two rates must never share a folder.
                name = [optimizer, "lr-own" if lr is None else f"lr{lr!r}", f"seed{seed}"]
                rate = "lr of its own" if lr is None else f"lr={lr:g}"
                label = [optimizer, rate, f"seed {seed}"]
                if bits is not None:
                    name.insert(2, f"{bits}bits")
                    label.insert(2, f"{bits} bits")
                command = _train_command(config, grid, bits)
                yield Cell(
                    name="-".join(name),
                    label=" ".join(label),
                    bits=bits,
                    config=config,
                    command=command,
                )


def _base(grid: Grid, optimizer: str) -> Config:
    """The configuration of one optimizer before learning rate, bits and seed."""
    config = get_recipe(grid.recipe).configure(optimizer)
    fields = ("epochs", "schedule", "data_dir", "threads")
    given = {name: getattr(grid, name) for name in fields}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    # Where the format is that of the weights, layers compute in float32 anyway.
    if grid.format == "none" and optimizer in STORES:
        pass
    elif grid.format is not None:
        changes["format"] = None if grid.format == "none" else grid.format
    config = replace(config, device=grid.device, **changes)
    return with_settings(config, _known_settings(grid, config))


def _known_settings(grid: Grid, config: Config) -> list[str]:
    names = setting_names(config)
    # One without "=" goes along, so that it is refused.
    return [s for s in grid.settings if "=" not in s or _split(s)[0] in names]


def _split(setting: str) -> tuple[str, str]:
    key, _, value = setting.partition("=")
    return key.strip(), value.strip()


def _with_bits(config: Config, bits: int | None, grid: Grid) -> Config:
    """The configuration whose weights keep so many bits after an update."""
    if bits is None:
        return config
    stored = STORES.get(config.optimizer)
    kind = "lns" if stored is None else stored[0].__name__.lower()
    _check_bits(config.optimizer, bits, kind)
    if stored is not None:
        if grid.format not in (None, "none"):
            raise ValueError(
                f"`bits` names the ladder of optimizer {config.optimizer!r}, and so does `format`; "
                f"got bits={bits} with format={grid.format!r}. Drop one of the two."
            )
        return replace(config, format=f"{kind}{bits}")
    if any(_split(setting)[0] == "update_format" for setting in grid.settings):
        raise ValueError(
            f"`bits` names the format of the update, and so does `update_format`; got bits={bits} "
            "with both. Drop one of the two."
        )
    if bits == FLOAT_BITS:
        return config
    if isinstance(config.optimizer_options, LMDOptions):
        raise ValueError(
            f"`bits` names the format of the update, which optimizer {config.optimizer!r} does not "
            f"have: its medians are what is stored; got bits={bits}. Use bits=32 with "
            f"--set state=lns{bits} in a sweep of its own."
        )
    if config.optimizer in RIVALS:
        raise ValueError(
            f"`bits` names the format of the update, which optimizer {config.optimizer!r} does not "
            f"have: it stores weights its own way; got bits={bits}. Use bits=32."
        )
    options: Any = config.optimizer_options
    options = replace(options, update_format=f"lns{bits}")
    return replace(config, optimizer_options=options)


def _check_bits(optimizer: str, bits: int, kind: str) -> None:
    known = sorted(
        int(name.removeprefix(kind))
        for name in formats.names()
        if name.startswith(kind) and name.removeprefix(kind).isdigit()
    )
    if bits == FLOAT_BITS and optimizer in _STORED_IN_CODES:
        raise ValueError(
            f"`bits` of 32 means float32 weights, but optimizer {optimizer!r} stores its weights "
            f"in codes; got bits=32. Use {known[0]} to {known[-1]} bits, or sweep it on its own."
        )
    if bits != FLOAT_BITS and bits not in known:
        rest = "" if optimizer in _STORED_IN_CODES else ", or 32 for float32 weights"
        raise ValueError(
            f"`bits` must be {known[0]} to {known[-1]} for optimizer {optimizer!r}{rest}; "
            f"got {bits}."
        )


def _train_command(config: Config, grid: Grid, bits: int | None) -> str:
    """The ``rung train`` line that makes this run on its own."""
    words = ["rung", "train", config.recipe, "--optimizer", config.optimizer]
    flags = {
        "--format": config.format if config.optimizer in STORES else grid.format,
        "--lr": None if config.lr is None else repr(config.lr),
        "--epochs": grid.epochs,
        "--schedule": grid.schedule,
        "--seed": config.seed,
        "--data-dir": grid.data_dir,
        "--device": None if grid.device == "cpu" else grid.device,
        "--threads": grid.threads,
    }
    for flag, value in flags.items():
        words += [] if value is None else [flag, str(value)]
    settings = _known_settings(grid, config)
    if bits not in (None, FLOAT_BITS) and config.optimizer not in STORES:
        settings.append(f"update_format={asdict(config.optimizer_options)['update_format']}")
    for setting in settings:
        words += ["--set", setting]
    return shlex.join(words)
