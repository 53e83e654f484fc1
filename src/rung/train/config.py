"""A complete training run as one frozen value."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

from rung import formats
from rung.formats import LNS, Ladder, Pair, Sinh
from rung.train.fields import Count, Positive, Range, check_fields, parse_field
from rung.train.layers import LayerOptions, require_compute_format
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    OptimizerOptions,
    SGDOptions,
    SignedMadamOptions,
)
from rung.train.recipe_options import RecipeOptions

Schedule = Literal["plateau", "cosine", "linear", "constant"]


# A torch.Generator takes 64 bits; the runs' streams are seed + small numbers.
_Seed = Annotated[int, Range(low=0, high=2**62)]

OPTIMIZERS: dict[str, type[OptimizerOptions]] = {
    "sgd": SGDOptions,
    "adam": AdamOptions,
    "adamw": AdamOptions,
    "madam": MadamOptions,
    "bbit-madam": BBitMadamOptions,
    "lns-madam": LNSMadamOptions,
    "lmd": LMDOptions,
    "signed-madam": SignedMadamOptions,
    "adamw-bf16": AdamOptions,
    "adamw-8bit": AdamOptions,
    "adamw-8bit-bf16": AdamOptions,
    "adamw-int8": AdamOptions,
}
"""Names for ``--optimizer`` and the class of their options."""

INT8_WEIGHTS = "adamw-int8"
"""Bitsandbytes' AdamW on torchao's INT8 weights, rounded stochastically."""

RIVALS = frozenset({"adamw-bf16", "adamw-8bit", "adamw-8bit-bf16", INT8_WEIGHTS})
"""AdamW of torchao (bfloat16 weights and moments) and of bitsandbytes (8-bit moments)."""

BF16_WEIGHTS = frozenset({"adamw-bf16", "adamw-8bit-bf16"})
"""Those whose weights are bfloat16, rounded stochastically; forward passes are then in it too."""

DEFAULT_OPTIMIZER = "bbit-madam"
"""What trains when nothing is said."""

DEFAULT_FORMAT = "ladder8"
"""How B-bit Madam stores weights when nothing is said."""

DEFAULT_SINH = "sinh8"
"""How signed Madam stores weights when nothing is said."""

STORES: dict[str, tuple[type[Ladder | Sinh | Pair], ...]] = {
    "bbit-madam": (Ladder,),
    "signed-madam": (Sinh, Pair),
}
"""Optimizers whose `format` is what the weights live in, and the kinds that each moves."""

_WORDS: dict[type, str] = {Ladder: "ladder", Sinh: "sinh ladder", Pair: "pair of ladders"}

DEFAULT_LNS = "lns8"
"""What layers compute in with LNS-Madam when nothing is said."""

_OWNERS = ("options", "optimizer_options", "layers")


def default_optimizer(format: str | None) -> str:
    """What trains when only a format is given.

    `DEFAULT_OPTIMIZER` for a ladder or none, signed Madam for a sinh ladder or a pair of ladders,
    LNS-Madam for an LNS, LMD for a float or microscaling format. A name that no format has is left
    to `Config`, which refuses it.
    """
    if format is None or format == "none":
        return DEFAULT_OPTIMIZER
    try:
        found = formats.get(format)
    except ValueError:
        return DEFAULT_OPTIMIZER
    for optimizer, kinds in STORES.items():
        if isinstance(found, kinds):
            return optimizer
    return "lns-madam" if isinstance(found, LNS) else "lmd"


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
    lr: Positive | None
    """Learning rate of the weights; for Madam the typical change of ln|W| per step, for LNS-Madam
    of log2|W|, for LMD of ln m of both medians, for signed Madam of theta. None, with LMD only:
    what LMD takes for the run's number of steps; a resumed run keeps what it began with."""
    epochs: Count
    """Passes over the training data."""
    schedule: Schedule
    """plateau: tenth of lr when the loss stalls; cosine or linear: down at the end, after a warm-up
    if the recipe's options or the optimizer have one; constant."""
    format: str | None = None
    """With B-bit and signed Madam the ladder that the weights live in. With every other optimizer
    the format in which all layers compute, or None for float32: an LNS forward and backward, a
    float or microscaling (MX) format forward only unless `layers` says more."""
    layers: LayerOptions = LayerOptions()
    """How the format that the layers compute in is spread over them."""
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
        if self.lr is None and self.optimizer != "lmd":
            raise ValueError(
                f"`lr` must be a number for optimizer {self.optimizer!r}; got None, which only "
                "'lmd' takes: it chooses by the number of steps. Give one by --lr."
            )
        _check_format(self.optimizer, self.format)
        self._check_rival()
        if self.compute_format is not None and self.options.precision != "float32":
            raise ValueError(
                "`precision` must be 'float32' where layers compute in a format, whose numbers "
                f"bf16 would round again; got precision={self.options.precision!r} with format="
                f"{self.format!r}. Drop one of the two (--format none)."
            )
        if self.options.average_from and self.optimizer == "lmd":
            raise ValueError(
                "`average_from` must be 0 for optimizer 'lmd', which evaluates at a point of its "
                f"own posterior; got {self.options.average_from!r}. Choose it by evaluate=mean."
            )
        if self.compute_format is None and self.layers != LayerOptions():
            changed = [
                field.name
                for field in fields(LayerOptions)
                if getattr(self.layers, field.name) != getattr(LayerOptions(), field.name)
            ]
            raise ValueError(
                f"`{changed[0]}` says how layers compute in a format; got it with "
                f"format={self.format!r} and optimizer={self.optimizer!r}. "
                f"Give format={DEFAULT_LNS!r} too, or drop it."
            )

    def _check_rival(self) -> None:
        """Refuse to round again what another library's optimizer rounds."""
        if self.optimizer in RIVALS and self.update_format is not None:
            raise ValueError(
                f"`update_format` must be none for optimizer {self.optimizer!r}, which stores "
                f"weights its own way; got {self.update_format!r}. Use 'adamw'."
            )
        narrow = self.optimizer in BF16_WEIGHTS or self.optimizer == INT8_WEIGHTS
        if narrow and self.compute_format is not None:
            raise ValueError(
                f"`format` must be none for optimizer {self.optimizer!r}, whose weights "
                f"are computed with as they are; got {self.format!r}. Use 'adamw'."
            )
        if self.optimizer == INT8_WEIGHTS and self.options.precision != "float32":
            raise ValueError(
                f"`precision` must be 'float32' for optimizer {INT8_WEIGHTS!r}: the backward pass "
                f"of torchao's layers takes one type throughout; got {self.options.precision!r}. "
                "Set precision=float32."
            )

    @property
    def compute_format(self) -> str | None:
        """Name of the format in which the layers compute; None for float32."""
        return None if self.optimizer in STORES else self.format

    @property
    def update_format(self) -> str | None:
        """Name of the LNS in which weights are kept between steps; None for any other format."""
        return getattr(self.optimizer_options, "update_format", None)


def _check_format(optimizer: str, name: str | None) -> None:
    kinds = STORES.get(optimizer, ())
    wanted = " or a ".join(_WORDS[kind] for kind in kinds)
    if name is None:
        if kinds:
            default = DEFAULT_FORMAT if Ladder in kinds else DEFAULT_SINH
            raise ValueError(
                f"`format` must name a {wanted} for optimizer {optimizer!r}; got None. "
                f"Use format={default!r}."
            )
        return
    found = formats.get(name)
    if kinds and not isinstance(found, kinds):
        owners = [owner for owner, stored in STORES.items() if isinstance(found, stored)]
        way_out = "To compute in it use --optimizer lns-madam, lmd or any other one."
        if owners:
            way_out = f"It is for --optimizer {owners[0]}."
        raise ValueError(
            f"`format` must name a {wanted} for optimizer {optimizer!r}, whose weights live on it; "
            f"got format={name!r}. {way_out}"
        )
    for other, stored in STORES.items():
        if not kinds and isinstance(found, stored):
            raise ValueError(
                f"A {_WORDS[type(found)]} stores weights in codes, which only optimizer {other!r} "
                f"trains; got format={name!r} with optimizer={optimizer!r}. Use {other!r}, or let "
                f"the layers compute in an LNS such as format={DEFAULT_LNS!r}, or in an MX format."
            )
    if not kinds:
        require_compute_format("format", name)


def setting_names(config: Config) -> tuple[str, ...]:
    """All keys that `with_settings` takes for this recipe and optimizer."""
    owners = (getattr(config, part) for part in _OWNERS)
    return tuple(field.name for owner in owners for field in fields(owner))


def with_settings(config: Config, settings: Sequence[str]) -> Config:
    """The configuration with options replaced, as ``--set`` does.

    Args:
        config: Where to start from.
        settings: ``"key=value"`` each; keys are the fields of the recipe's options, of the
            optimizer's options and of `LayerOptions`.

    Raises:
        ValueError: No "=", an unknown key (the text lists the valid ones), or a value of another
            type or out of range.
    """
    changes: dict[str, dict[str, Any]] = {part: {} for part in _OWNERS}
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
        **{part: replace(getattr(config, part), **found) for part, found in changes.items()},
    )
