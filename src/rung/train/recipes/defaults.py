"""What recipes share: the choice of an optimizer's defaults, and the folder of the data."""

from collections.abc import Mapping

from rung.train.config import (
    DEFAULT_FORMAT,
    DEFAULT_LNS,
    DEFAULT_SINH,
    OPTIMIZERS,
    RIVALS,
    Config,
)
from rung.train.optimizer_options import OptimizerOptions, SignedMadamOptions

Defaults = Mapping[str, tuple[float | None, OptimizerOptions]]
"""Learning rate and options for each optimizer."""

SIGNED_MADAM_LR = 0.06
"""experiments/one-byte.md says where it comes from."""

EVERYWHERE: Defaults = {"signed-madam": (SIGNED_MADAM_LR, SignedMadamOptions())}
"""Of optimizers that are the same in every recipe that doesn't say otherwise."""


def choose(defaults: Defaults, optimizer: str) -> tuple[float | None, OptimizerOptions]:
    """Learning rate and options of an optimizer.

    Raises:
        ValueError: No optimizer has this name; the text lists those that exist.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"Unknown optimizer {optimizer!r}; the optimizers are: {', '.join(OPTIMIZERS)}."
        )
    # Smaller AdamWs have the settings of the recipe's own.
    return {**EVERYWHERE, **defaults}["adamw" if optimizer in RIVALS else optimizer]


def default_format(optimizer: str) -> str | None:
    """Format where none is given: what the weights live in, an LNS for LNS-Madam, else float32."""
    known = {
        "bbit-madam": DEFAULT_FORMAT,
        "signed-madam": DEFAULT_SINH,
        "lns-madam": DEFAULT_LNS,
    }
    return known.get(optimizer)


def required_data_dir(config: Config, files: str) -> str:
    """The data folder of a recipe that has no embedded data.

    Args:
        config: The configuration.
        files: Which files the folder must hold, and where to get them.

    Raises:
        ValueError: No folder was given.
    """
    if config.data_dir is None:
        raise ValueError(
            f"Recipe {config.recipe!r} reads its data from files; give their folder by --data-dir: "
            f"{files}."
        )
    return config.data_dir


def refuse_data_dir(config: Config) -> None:
    """Refuse a data folder for a recipe whose data is embedded.

    Raises:
        ValueError: A folder was given.
    """
    if config.data_dir is not None:
        raise ValueError(
            f"Recipe {config.recipe!r} has its data embedded and reads no files; got "
            f"data_dir={config.data_dir!r}. Drop --data-dir."
        )
