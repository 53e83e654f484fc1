"""A complete training run as one frozen value."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal

from rung import formats
from rung.train.fields import Count, Positive, Range, check_fields, parse_field
from rung.train.options import (
    AdamOptions,
    BBitMadamOptions,
    MadamOptions,
    OptimizerOptions,
    RecipeOptions,
    SGDOptions,
)

Schedule = Literal["plateau", "cosine", "constant"]

# A torch.Generator takes 64 bits; the runs' streams are seed + small numbers.
_Seed = Annotated[int, Range(low=0, high=2**62)]

OPTIMIZERS: dict[str, type[OptimizerOptions]] = {
    "sgd": SGDOptions,
    "adam": AdamOptions,
    "adamw": AdamOptions,
    "madam": MadamOptions,
    "bbit-madam": BBitMadamOptions,
}
"""Names for ``--optimizer`` and the class of their options."""

DEFAULT_OPTIMIZER = "bbit-madam"
"""What trains when nothing is said."""

DEFAULT_FORMAT = "ladder8"
"""How B-bit Madam stores weights when nothing is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Everything that decides a run; a variant is ``dataclasses.replace(config, seed=1)``.

    Raises:
        ValueError: A field has another type or is out of range, a name is unknown, or two fields
            contradict each other.
    """

    recipe: str
    """Name of the recipe, which chooses data, model and metric."""
    optimizer: str
    """One of `OPTIMIZERS`."""
    optimizer_options: OptimizerOptions
    """Options of the optimizer, of the class that `OPTIMIZERS` states."""
    options: RecipeOptions
    """Options of the recipe, of the class that its function uses."""
    lr: Positive
    """Learning rate of the weights; for Madam the typical change of ln|W| per step."""
    epochs: Count
    """Passes over the training data."""
    schedule: Schedule
    """plateau: tenth of lr when the loss stalls; cosine: down to 0 at the end; constant."""
    format: str | None = None
    """Ladder that the weights live in, with B-bit Madam; None with every other optimizer."""
    seed: _Seed = 0
    """Seed of initialisation, signs, order of examples, augmentation, dropout and rounding."""
    data_dir: str | None = None
    """Folder or file of the data; None for embedded data."""
    device: str = "cpu"
    """A torch device, e.g. ``cpu`` or ``cuda:0``."""
    threads: Count | None = None
    """CPU threads; None leaves torch's choice."""

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"Unknown optimizer {self.optimizer!r}; the optimizers are: "
                f"{', '.join(OPTIMIZERS)}."
            )
        check_fields(self)
        expected = OPTIMIZERS[self.optimizer]
        if type(self.optimizer_options) is not expected:
            raise ValueError(
                f"`optimizer_options` must be {expected.__name__} for optimizer "
                f"{self.optimizer!r}; got {type(self.optimizer_options).__name__}."
            )
        _check_format(self.optimizer, self.format)


def _check_format(optimizer: str, name: str | None) -> None:
    if optimizer == "bbit-madam":
        if name is None:
            raise ValueError(
                "`format` must name a ladder for optimizer 'bbit-madam'; got None. "
                f"Use format={DEFAULT_FORMAT!r}."
            )
        formats.get(name)
    elif name is not None:
        raise ValueError(
            f"`format` stores weights in codes, which only optimizer 'bbit-madam' trains; got "
            f"format={name!r} with optimizer={optimizer!r}. Drop the format or use 'bbit-madam'."
        )


def setting_names(config: Config) -> tuple[str, ...]:
    """All keys that `with_settings` takes for this recipe and optimizer."""
    owners = (config.options, config.optimizer_options)
    return tuple(field.name for owner in owners for field in fields(owner))


def with_settings(config: Config, settings: Sequence[str]) -> Config:
    """The configuration with options replaced, as ``--set`` does.

    Args:
        config: Where to start from.
        settings: ``"key=value"`` each; keys are the fields of the recipe's options and of the
            optimizer's options.

    Raises:
        ValueError: No "=", an unknown key (the text lists the valid ones), or a value of another
            type or out of range.
    """
    changes: dict[str, dict[str, Any]] = {"options": {}, "optimizer_options": {}}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"A setting has the form KEY=VALUE; got {setting!r}.")
        key, text = key.strip(), text.strip()
        for part, found in changes.items():
            owner = getattr(config, part)
            if key in (field.name for field in fields(owner)):
                found[key] = parse_field(type(owner), key, text)
                break
        else:
            raise ValueError(
                f"Unknown setting {key!r} for recipe {config.recipe!r} with optimizer "
                f"{config.optimizer!r}; the settings are: {', '.join(setting_names(config))}."
            )
    return replace(
        config,
        options=replace(config.options, **changes["options"]),
        optimizer_options=replace(config.optimizer_options, **changes["optimizer_options"]),
    )


def fingerprint(config: Config) -> dict[str, Any]:
    """The fields that a resumed run must share with its checkpoint, as flat JSON values.

    Left out are where a run happens and how often it writes; and `epochs`, unless the schedule
    depends on it, so that a finished run can go on.
    """
    flat: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("recipe", "optimizer", "format", "seed", "lr", "schedule", "epochs")
    }
    flat |= asdict(config.options) | asdict(config.optimizer_options)
    for name in ("checkpoint_minutes", "log_every", "max_loss", "eval_batch_size"):
        del flat[name]
    if config.schedule != "cosine":
        del flat["epochs"]
    return flat
