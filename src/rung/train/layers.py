"""In which numbers the layers of a model compute: options, and the conversion of a model."""

from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from rung import formats
from rung.formats import LNS, MX, Minifloat, name_of
from rung.nn import Policy, Quantizer, Rule, convert_
from rung.nn.policy import quantizer_for
from rung.train.fields import check_fields
from rung.train.optimizer_options import Rounding

if TYPE_CHECKING:
    from rung.train.config import Config

ComputeFormat = LNS | MX | Minifloat

_SCALES = ("tensor", "channel", "row")
_FLOAT = "float32"
_PLACES = ("weight", "activation", "error", "gradient")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerOptions:
    """How ``--format lns8`` is spread over the operands and gradients of every layer.

    A scale is ``tensor``, ``channel``, ``row`` or ``blockN``, e.g. ``block32``: whose largest
    magnitude becomes the largest code. An MX has blocks of its own, and bf16 and fp16 have no
    scale: with them the defaults here mean nothing.
    """

    weight_scale: str = "channel"
    """What shares a scale among the weights W."""
    activation_scale: str = "tensor"
    """What shares a scale among the activations A."""
    error_scale: str = "tensor"
    """What shares a scale in the gradient E that arrives at a layer."""
    gradient_scale: str = "tensor"
    """What shares a scale in the gradient G of the weights."""
    forward_rounding: Rounding = "nearest"
    """How the weights W and the activations A are rounded."""
    backward_format: str | None = None
    """Format of the gradients E and G, or float32; none: float32, and for an LNS the bits of
    `format` at half its base factor (at least 1), which covers twice the octaves."""
    backward_rounding: Rounding = "nearest"
    """How the gradients E and G are rounded."""
    float_layers: str = ""
    """Comma-separated patterns of layer names that stay float32, e.g. ``head,blocks.0.*``."""

    def __post_init__(self) -> None:
        check_fields(self)
        for field in fields(self):
            if field.name.endswith("_scale"):
                parse_scale(field.name, getattr(self, field.name))
        if self.backward_format not in (None, _FLOAT):
            require_compute_format("backward_format", self.backward_format)

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


def require_compute_format(field: str, name: str | None) -> ComputeFormat:
    """The format of a name, if layers can compute in it.

    Args:
        field: What is set, for the error.
        name: Name of an LNS, an MX or a minifloat.

    Raises:
        ValueError: No such format, or one that only stores: a ladder, a fixed-point element.
    """
    found = formats.get(str(name))
    if isinstance(found, ComputeFormat):
        return found
    known = [each for each in formats.names() if isinstance(formats.get(each), ComputeFormat)]
    raise ValueError(
        f"`{field}` must name a format that layers compute in (LNS, MX or minifloat); got "
        f"{name!r}. Choose one of: {', '.join(known)}."
    )


def backward_of(format: str, options: LayerOptions) -> ComputeFormat | None:
    """Format of E and G, with a zero; None for float32."""
    if options.backward_format == _FLOAT:
        return None
    if options.backward_format is not None:
        found = require_compute_format("backward_format", options.backward_format)
        return found.with_zero() if isinstance(found, LNS) else found
    forward = require_compute_format("format", format)
    if not isinstance(forward, LNS):
        return None
    return replace(forward, base_factor=max(1, forward.base_factor // 2), zero=True)


def layer_record(format: str, options: LayerOptions) -> dict[str, Any]:
    """What a run writes down of its layers: the options, with the format of E and G resolved."""
    backward = backward_of(format, options)
    record = asdict(options) | {"backward_format": name_of(backward) if backward else _FLOAT}
    # Left out where it has no effect: checkpoints and runs from before it existed say the same.
    if options.forward_rounding == "nearest":
        del record["forward_rounding"]
    return record


def policy(format: str, options: LayerOptions) -> Policy:
    """The policy of `rung.nn.convert_` for a format and its options.

    Weights never are 0, so an LNS of theirs has no code for it; all others need one.

    Args:
        format: Name of an LNS, an MX or a minifloat, e.g. ``"lns8"``.
        options: Scales, backward format, roundings, layers that stay float32.

    Raises:
        ValueError: A scale for a format that has its own; a scale or a rounding of gradients that
            stay float32.
    """
    forward: ComputeFormat = require_compute_format("format", format)
    zero = forward
    if isinstance(forward, LNS):
        forward, zero = replace(forward, zero=False), forward.with_zero()
    backward = backward_of(format, options)
    if backward is None and options.backward_rounding != "nearest":
        raise ValueError(_without_effect("backward_rounding", options.backward_rounding))
    places = zip(_PLACES, (forward, zero, backward, backward), strict=True)
    return Policy(
        **{place: _quantizer(place, fmt, options) for place, fmt in places},
        rules=tuple(Rule.skip(pattern) for pattern in options.float_patterns),
    )


def _quantizer(place: str, fmt: ComputeFormat | None, options: LayerOptions) -> Quantizer | None:
    field = f"{place}_scale"
    text, default = getattr(options, field), LayerOptions.__dataclass_fields__[field].default
    if fmt is None:
        if text != default:
            raise ValueError(_without_effect(field, text))
        return None
    is_forward = place in ("weight", "activation")
    rounding = options.forward_rounding if is_forward else options.backward_rounding
    if text == default:
        usual = quantizer_for(place, fmt)
        assert usual is not None
        return replace(usual, rounding=rounding)
    if isinstance(fmt, MX):
        raise ValueError(
            f"`{field}` must be left out for an MX, which has a scale for every block of "
            f"{fmt.block_size}; got {text!r} for {name_of(fmt)}. Drop it, or name a format of "
            "another block size, as 'mxfp4_k16'."
        )
    return Quantizer(fmt, parse_scale(field, text), rounding)


def _without_effect(field: str, value: str) -> str:
    return (
        f"`{field}` needs gradients in a format; got {value!r}, and they stay float32. Give "
        "`backward_format` too, or drop it."
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
    rules = policy(config.compute_format, config.layers)
    if getattr(config.optimizer_options, "parts_format", None) is not None:
        # Their halves are rounded already; rounding the difference again would undo that.
        rules = replace(rules, weight=None)
    report = convert_(model, rules)
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
