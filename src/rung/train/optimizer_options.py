"""Options of the update rules: frozen, typed, self-checking."""

from dataclasses import dataclass
from typing import Literal

from rung import formats
from rung.formats import LNS
from rung.train.fields import Count, Fraction, NonNegative, Positive, check_fields

MomentumBits = Literal[4, 8]
State = Literal["fp32", "bf16", "log8"]
RowState = Literal["fp32", "bf16", "log8", "rows", "factored"]
Rounding = Literal["nearest", "stochastic"]
Start = Literal["round", "uniform"]
Signs = Literal["seed", "packed"]
Others = Literal["additive", "multiplicative", "none"]
ScaleAxis = Literal["tensor", "channel"]
Prior = Literal["lognormal", "exponential", "gaussian", "constant"]
Direction = Literal["sign", "rms"]
Point = Literal["mean", "median"]

_LARGEST_SIGMA = 4.0


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
    """Madam on float weights; norm gains and biases go where `others` says."""

    beta: Fraction = 0.999
    """Decay of the second moment per step."""
    clip: Positive = 8.0
    """Largest step, in multiples of lr."""
    scale_bound: Positive = 3.0
    """Largest weight, in multiples of the tensor's initial root mean square."""
    weight_decay: NonNegative = 0.0
    """Multiplicative decay, times lr per step."""
    state: RowState = "fp32"
    """How the second moment is stored; rows: one number for each output row;
    factored: for each of the others too."""
    additive_lr: Positive = 1e-3
    """Learning rate of AdamW, which trains norm gains and biases."""
    others: Others = "additive"
    """How norm gains and biases are trained: additive by AdamW; multiplicative by the rule of the
    weights, those that are all zero drawn at the start; none: they stay as they are."""
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
    """Madam on weights that are ladder codes; norm gains and biases go where `others` says."""

    beta: Fraction = 0.999
    """Decay of the second moment per step."""
    clip: Positive = 8.0
    """Largest step, in multiples of lr."""
    scale_bound: Positive = 3.0
    """Top rung, in multiples of the tensor's initial root mean square."""
    scale_axis: ScaleAxis = "tensor"
    """One top rung for a whole tensor, or one for each output channel (dimension 0)."""
    weight_decay: NonNegative = 0.0
    """Multiplicative decay in rungs, times lr per step."""
    state: RowState = "bf16"
    """How the second moment is stored; rows: one number for each output row;
    factored: for each of the others too."""
    rounding: Rounding = "stochastic"
    """How a step becomes whole rungs; nearest needs lr of at least the base precision."""
    init: Start = "round"
    """First codes: rungs nearest to the usual initialisation, or drawn uniformly."""
    signs: Signs = "seed"
    """Signs from the seed (0 bits a weight) or packed (1 bit a weight)."""
    additive_lr: Positive = 1e-3
    """Learning rate of AdamW, which trains norm gains and biases."""
    others: Others = "additive"
    """How norm gains and biases are trained: additive by AdamW; multiplicative in codes like the
    weights, those that are all zero drawn at the start; none: they stay as they are."""
    scales_from: str | None = None
    """Folder of a run of the same recipe with float32 weights: each tensor's top rung is the
    largest weight that it has there, instead of `scale_bound`."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scales_from is not None and self.scale_axis != "tensor":
            raise ValueError(
                "`scales_from` gives one top rung a tensor, so `scale_axis` must be 'tensor'; got "
                f"{self.scale_axis!r}. Leave one of the two out."
            )


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
    scale_axis: ScaleAxis = "tensor"
    """One largest code for a whole tensor, or one for each output channel (dimension 0)."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedMadamOptions:
    """Madam on codes of a sinh ladder or a pair of ladders; norm gains and biases as `others` says.

    Its learning rate is the typical change of theta in a step, one for all recipes.
    """

    beta: Fraction = 0.99
    """Decay of the second moment per step."""
    clip: Positive = 8.0
    """Largest step, in multiples of lr."""
    scale_bound: Positive | None = None
    """Top rung, in multiples of the tensor's initial root mean square; none: the largest weight."""
    min_scale: NonNegative = 0.6
    """Lowest value of a top rung, which most weights have: lr * knee * this is how far a step moves
    small ones."""
    scale_axis: ScaleAxis = "tensor"
    """One top rung for a whole tensor, or one for each output channel (dimension 0)."""
    weight_decay: NonNegative = 0.03
    """Pull of theta towards 0: a weight on the top rung shrinks by exp(-lr times this) a step."""
    momentum: Fraction = 0.9
    """Decay per step of the mean of normalised gradients that weights move by; 0: none is kept."""
    momentum_bits: MomentumBits | None = None
    """Bits of a momentum beside log8, rows or factored, 4 or 8; none: 4."""
    state: RowState = "log8"
    """How the second moment is stored, and beside bf16 and fp32 the momentum too; rows: one number
    for each output row; factored: for each of the others too."""
    rounding: Rounding = "stochastic"
    """How a step becomes whole rungs; nearest needs lr of at least half a rung."""
    additive_lr: Positive = 0.01
    """Learning rate of AdamW, which trains norm gains and biases."""
    others: Others = "additive"
    """How norm gains and biases are trained: additive by AdamW; multiplicative in codes like the
    weights, those that are all zero drawn at the start; none: they stay as they are."""
    float_weights: str = ""
    """Comma-separated patterns of names of weights that AdamW trains in float32, with norm gains
    and biases, e.g. ``*embedding*``."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient; none leaves it as it is."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.momentum_bits is not None and self.state in ("fp32", "bf16"):
            raise ValueError(
                f"`state` {self.state!r} stores the momentum too; got `momentum_bits` "
                f"{self.momentum_bits}. Leave it out, or take state=log8."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LMDOptions:
    """Log-normal multiplicative dynamics; norm gains and biases go to AdamW.

    Its learning rate is the change of ln m in a step, of each of the two medians of a weight.
    """

    beta1: Fraction | None = None
    """Share of the momentum in the direction of a step; none, with beta2: it follows lr."""
    beta2: Fraction | None = None
    """Decay of the momentum per step; none, with beta1: it follows lr."""
    reach: Positive | None = None
    """Without betas: how far ln m moves while a gradient is remembered; none: 5 times lr."""
    sigma: NonNegative = 0.05
    """Standard deviation of ln w+ and ln w-, at most 4; 0 draws no noise."""
    prior: Prior = "lognormal"
    """Distribution of w+ and w- that the regularizer comes from."""
    regularization: NonNegative | None = None
    """Weight of the regularizer; none: a third of the reach."""
    offset: Positive = 0.1
    """What both medians begin with beside the weight, in multiples of its tensor's spread."""
    entropy: bool = False
    """Whether the posterior's entropy counts: the priors exponential and gaussian then pull a
    weight up, too, where it is small."""
    update: Direction = "sign"
    """Sign of the momentum, or the momentum divided by its root mean square."""
    clip: Positive = 3.0
    """Update rms: largest step, in multiples of lr."""
    weight_scaled: bool = True
    """Whether the gradient is scaled by the weight; false is an ablation."""
    samples: Count = 1
    """Weights that a step samples; each costs a forward and a backward pass."""
    evaluate: Point = "mean"
    """Weights between steps, which evaluations and exports take."""
    state: str = "fp32"
    """How medians and momenta are stored: fp32, bf16, or the medians as codes of an LNS without a
    zero."""
    parts_format: str | None = None
    """Format in which w+ and w- are rounded, each for itself, before they are subtracted; layers
    then take that difference as it is."""
    additive_lr: Positive = 0.008
    """Learning rate of AdamW, which trains norm gains and biases."""
    clip_norm: Positive | None = None
    """Largest norm of the whole gradient of a sample; none leaves it as it is."""

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.beta1 is None) != (self.beta2 is None):
            raise ValueError(
                "`beta1` and `beta2` must be given together, or neither of them; got "
                f"beta1={self.beta1} and beta2={self.beta2}. Give the other one too."
            )
        # LMD says the same, in these words, but only once data and model are there.
        if self.sigma > _LARGEST_SIGMA:
            raise ValueError(
                "`sigma` must be from 0 to 4, beyond which exp(sigma * eps) overflows float32; got "
                f"sigma={self.sigma}."
            )
        if self.state not in ("fp32", "bf16") and not _is_lns_without_zero(self.state):
            raise ValueError(
                "`state` must be one of 'fp32', 'bf16' or the name of an LNS without a zero, such "
                f"as 'lns16' or 'lns8'; got state={self.state!r}."
            )
        if self.parts_format is not None:
            formats.get(self.parts_format)


OptimizerOptions = (
    SGDOptions
    | AdamOptions
    | MadamOptions
    | BBitMadamOptions
    | LNSMadamOptions
    | LMDOptions
    | SignedMadamOptions
)


def _is_lns_without_zero(name: str) -> bool:
    try:
        found = formats.get(name)
    except ValueError:
        return False
    return isinstance(found, LNS) and not found.zero


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
