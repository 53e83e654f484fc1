"""In which numbers the layers of a model compute: options, and the conversion of a model."""

from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from rung.formats import LNS, name_of
from rung.nn import Policy, Quantizer, Rule, convert_
from rung.train.fields import check_fields
from rung.train.optimizer_options import Rounding, require_lns

if TYPE_CHECKING:
    from rung.train.config import Config

_SCALES = ("tensor", "channel", "row")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerOptions:
    """How ``--format lns8`` is spread over the operands and gradients of every layer.

    A scale is ``tensor``, ``channel``, ``row`` or ``blockN``, e.g. ``block32``: whose largest
    magnitude becomes the largest code.
    """

    weight_scale: str = "channel"
    """What shares a scale among the weights W."""
    activation_scale: str = "tensor"
    """What shares a scale among the activations A."""
    error_scale: str = "tensor"
    """What shares a scale in the gradient E that arrives at a layer."""
    gradient_scale: str = "tensor"
    """What shares a scale in the gradient G of the weights."""
    backward_format: str | None = None
    """LNS of the gradients E and G; none: the bits of `format` at half its base factor (at least
    1), which covers twice the octaves."""
    backward_rounding: Rounding = "nearest"
    """How the gradients E and G are rounded."""
    float_layers: str = ""
    """Comma-separated patterns of layer names that stay float32, e.g. ``head,blocks.0.*``."""

    def __post_init__(self) -> None:
        check_fields(self)
        for field in fields(self):
            if field.name.endswith("_scale"):
                parse_scale(field.name, getattr(self, field.name))
        if self.backward_format is not None:
            require_lns("backward_format", self.backward_format)

    @property
    def float_patterns(self) -> tuple[str, ...]:
        """The patterns of `float_layers`."""
        return tuple(part.strip() for part in self.float_layers.split(",") if part.strip())


def parse_scale(field: str, text: str) -> str | int:
    """What shares a scale, as `rung.nn.Quantizer` takes it: a word, or the length of a block.

    Args:
        field: What is set, for the error.
        text: ``"tensor"``, ``"channel"``, ``"row"`` or ``"blockN"``.

    Raises:
        ValueError: The text is none of these.
    """
    if text in _SCALES:
        return text
    size = text.removeprefix("block")
    if size != text and size.isascii() and size.isdigit() and int(size) > 0:
        return int(size)
    raise ValueError(
        f"`{field}` must be one of {', '.join(_SCALES)} or blockN; got {text!r}. "
        "Blocks of 32 numbers are block32."
    )


def backward_of(format: str, options: LayerOptions) -> LNS:
    """Format of E and G, with a zero."""
    if options.backward_format is not None:
        return require_lns("backward_format", options.backward_format).with_zero()
    forward = require_lns("format", format)
    return replace(forward, base_factor=max(1, forward.base_factor // 2), zero=True)


def layer_record(format: str, options: LayerOptions) -> dict[str, Any]:
    """What a run writes down of its layers: the options, with the format of E and G resolved."""
    return asdict(options) | {"backward_format": name_of(backward_of(format, options))}


def policy(format: str, options: LayerOptions) -> Policy:
    """The policy of `rung.nn.convert_` for a format and its options.

    Weights never are 0, so their format has no code for it; all others need one.

    Args:
        format: Name of an LNS, e.g. ``"lns8"``.
        options: Scales, backward format and rounding, layers that stay float32.
    """
    forward = replace(require_lns("format", format), zero=False)
    backward = backward_of(format, options)

    def scale(name: str) -> str | int:
        return parse_scale(name, getattr(options, name))

    rounding = options.backward_rounding
    return Policy(
        weight=Quantizer(forward, scale=scale("weight_scale")),
        activation=Quantizer(forward.with_zero(), scale=scale("activation_scale")),
        error=Quantizer(backward, scale=scale("error_scale"), rounding=rounding),
        gradient=Quantizer(backward, scale=scale("gradient_scale"), rounding=rounding),
        rules=tuple(
            Rule(names=pattern, weight=None, activation=None, error=None, gradient=None)
            for pattern in options.float_patterns
        ),
    )


def convert_layers(config: "Config", model: nn.Module) -> str | None:
    """Let a model's layers compute in the configuration's format.

    Returns:
        One line that says what was converted, or None where everything computes in float32.

    Raises:
        ValueError: A pattern of `float_layers` matches no layer; the text lists the layers.
    """
    if config.compute_format is None:
        return None
    report = convert_(model, policy(config.compute_format, config.layers))
    # "any" are models and blocks as a whole, whose own products, if any, are converted too.
    converted = {layer.name: layer.class_name for layer in report.converted if layer.kind != "any"}
    left = {
        layer.name: layer.class_name for layer in report.left if layer.kind not in (None, "any")
    }
    line = f"{len(converted)} compute in {config.compute_format} ({_counts(converted)})"
    return line + (f"; {len(left)} left in float32 ({', '.join(left)})" if left else "")


def _counts(classes: dict[str, str]) -> str:
    """``2 Conv2d, 1 Linear``, of names and classes."""
    counts = Counter(classes.values())
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "products of the model"
