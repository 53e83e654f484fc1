"""Options of the update rules: frozen, typed, self-checking."""

from dataclasses import dataclass
from typing import Literal

from rung import formats
from rung.formats import LNS
from rung.train.fields import Fraction, NonNegative, Positive, check_fields

State = Literal["fp32", "bf16", "log8"]
Rounding = Literal["nearest", "stochastic"]
Start = Literal["round", "uniform"]
Signs = Literal["seed", "packed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SGDOptions:
    """Stochastic gradient descent with momentum."""

    momentum: Fraction = 0.9
    """Share of the last step that is repeated."""
    weight_decay: NonNegative = 0.0
    """L2 penalty, added to the gradient."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""
    update_format: str | None = None
    """LNS to which every weight is rounded after each step, e.g. lns10; none: float32."""
    update_rounding: Rounding = "nearest"
    """How a stepped weight becomes a number of `update_format`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.update_format is not None:
            require_lns("update_format", self.update_format)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamOptions:
    """Adam and AdamW."""

    beta1: Fraction = 0.9
    """Decay of the first moment per step."""
    beta2: Fraction = 0.999
    """Decay of the second moment per step."""
    weight_decay: NonNegative = 0.0
    """Adam: L2 penalty in the gradient. AdamW: decoupled, times lr per step."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""
    update_format: str | None = None
    """LNS to which every weight is rounded after each step, e.g. lns10; none: float32."""
    update_rounding: Rounding = "nearest"
    """How a stepped weight becomes a number of `update_format`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.update_format is not None:
            require_lns("update_format", self.update_format)


@dataclass(frozen=True, kw_only=True, slots=True)
class MadamOptions:
    """Madam on float weights; norm gains and biases go to AdamW."""

    beta: Fraction = 0.999
    """Decay of the second moment per step."""
    clip: Positive = 8.0
    """Largest step, in multiples of lr."""
    scale_bound: Positive = 3.0
    """Largest weight, in multiples of the tensor's initial root mean square."""
    weight_decay: NonNegative = 0.0
    """Multiplicative decay, times lr per step."""
    state: State = "fp32"
    """How the second moment is stored."""
    additive_lr: Positive = 1e-3
    """Learning rate of AdamW, which trains norm gains and biases."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""
    update_format: str | None = None
    """LNS to which every weight is rounded after each step, e.g. lns10; none: float32."""
    update_rounding: Rounding = "nearest"
    """How a stepped weight becomes a number of `update_format`."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.update_format is not None:
            require_lns("update_format", self.update_format)


@dataclass(frozen=True, kw_only=True, slots=True)
class BBitMadamOptions:
    """Madam on weights that are ladder codes; norm gains and biases go to AdamW in float32."""

    beta: Fraction = 0.999
    """Decay of the second moment per step."""
    clip: Positive = 8.0
    """Largest step, in multiples of lr."""
    scale_bound: Positive = 3.0
    """Top rung, in multiples of the tensor's initial root mean square."""
    weight_decay: NonNegative = 0.0
    """Multiplicative decay in rungs, times lr per step."""
    state: State = "bf16"
    """How the second moment is stored."""
    rounding: Rounding = "stochastic"
    """How a step becomes whole rungs; nearest needs lr of at least the base precision."""
    init: Start = "round"
    """First codes: rungs nearest to the usual initialisation, or drawn uniformly."""
    signs: Signs = "seed"
    """Signs from the seed (0 bits a weight) or packed (1 bit a weight)."""
    additive_lr: Positive = 1e-3
    """Learning rate of AdamW, which trains norm gains and biases."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class LNSMadamOptions:
    """Madam on weights that are LNS codes; norm gains and biases go to AdamW in float32.

    Its learning rate is in octaves: the typical change of log2|W| per step.
    """

    beta: Fraction = 0.999
    """Decay of the second moment per step."""
    clip: Positive = 10.0
    """Largest step, in multiples of lr."""
    scale_bound: Positive = 3.0
    """Largest code, in multiples of the tensor's initial root mean square."""
    weight_decay: NonNegative = 0.0
    """Multiplicative decay in octaves, times lr per step."""
    state: State = "bf16"
    """How the second moment is stored."""
    rounding: Rounding = "nearest"
    """How a step becomes a whole number of codes."""
    update_format: str = "lns16"
    """LNS that the weights live in."""
    additive_lr: Positive = 1e-3
    """Learning rate of AdamW, which trains norm gains and biases."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""

    def __post_init__(self) -> None:
        check_fields(self)
        if require_lns("update_format", self.update_format).zero:
            raise ValueError(
                "`update_format` of weights that live in codes must have no zero, from which a "
                f"multiplicative rule can't move; got {self.update_format!r}. Drop '+zero'."
            )


OptimizerOptions = SGDOptions | AdamOptions | MadamOptions | BBitMadamOptions | LNSMadamOptions


def require_lns(field: str, name: str) -> LNS:
    """The LNS of a name.

    Args:
        field: What is set, for the error.
        name: A name such as ``"lns8"`` or ``"lns8_b4"``.

    Raises:
        ValueError: The format is unknown, or another kind of format.
    """
    found = formats.get(name)
    if not isinstance(found, LNS):
        known = ", ".join(known for known in formats.names() if known.startswith("lns"))
        raise ValueError(
            f"`{field}` must name a logarithmic number system; got {name!r}. Choose one of: "
            f"{known}."
        )
    return found
