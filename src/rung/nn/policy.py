"""Which format computes where: four defaults, and rules for layers by name and products by kind."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from fnmatch import fnmatchcase

from rung.formats import LNS, Format, get
from rung.nn.mode import KINDS
from rung.nn.quantizer import Quantizer, Quantizers
from rung.nn.scales import default_scale


class _Inherit(Enum):
    """The value of a rule's place that the rule says nothing about."""

    INHERIT = "inherit"

    def __repr__(self) -> str:
        return "inherit"


INHERIT = _Inherit.INHERIT
PLACES = ("weight", "activation", "error", "gradient")
Given = str | Format | Quantizer | None


def quantizer_for(place: str, given: Given) -> Quantizer | None:
    """What a format means in one of the four places.

    A weight gets a scale per output channel and the others one per tensor, unless a `Quantizer`
    says otherwise; an MX has its own blocks, and bf16 and fp16 have no scale. An LNS that is given
    by name has no code for zero in a weight, and has one in the other places, whose tensors are
    full of exact zeros; a format object is taken as it is.

    Args:
        place: One of `PLACES`.
        given: Name, format, quantizer or None.

    Raises:
        ValueError: No such format.
        TypeError: Something else.
    """
    if given is None:
        return None
    if not isinstance(given, Quantizer):
        fmt = get(given) if isinstance(given, str) else given
        given = Quantizer(given, default_scale(fmt, place))
    if given.by_name and place != "weight" and isinstance(given.format, LNS):
        return replace(given, format=given.format.with_zero())
    return given


@dataclass(frozen=True)
class Rule:
    """An exception to a policy's defaults; a place that isn't given inherits.

    Attributes:
        names: Pattern, or several, of qualified layer names, as the shell matches files:
            ``"encoder.layers.0.*"``; the model itself has the name ``""``.
        kinds: Kinds of products, or one: linear, conv, embedding, attention, recurrent, matmul.
            None: all.
        weight: Name, format, `Quantizer` or None (floating point).
        activation: The same.
        error: The same.
        gradient: The same.

    Raises:
        ValueError: Unknown kind or format; no pattern.

    Example:
        >>> print(Rule("decoder", error="lns12").error)
        lns12+zero by tensor
    """

    names: str | Iterable[str] = "*"
    kinds: str | Iterable[str] | None = None
    weight: Given | _Inherit = INHERIT
    activation: Given | _Inherit = INHERIT
    error: Given | _Inherit = INHERIT
    gradient: Given | _Inherit = INHERIT

    def __post_init__(self) -> None:
        names = (self.names,) if isinstance(self.names, str) else tuple(self.names)
        kinds = KINDS if self.kinds is None else self.kinds
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            got = ", ".join(map(repr, unknown)) or "none"
            raise ValueError(f"`kinds` must be of {', '.join(KINDS)}; got {got}.")
        if not names:
            raise ValueError("`names` must be a pattern or several; got none. Use '*' for all.")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "kinds", kinds)
        for place in PLACES:
            given = getattr(self, place)
            if given is not INHERIT:
                object.__setattr__(self, place, quantizer_for(place, given))

    @classmethod
    def skip(
        cls, names: str | Iterable[str] = "*", kinds: str | Iterable[str] | None = None
    ) -> "Rule":
        """A rule that leaves layers in floating point: None in all four places."""
        return cls(names, kinds, None, None, None, None)

    def applies(self, names: Iterable[str], kind: str) -> bool:
        """Whether the rule is for a product of a kind, in a layer with any of these names."""
        return kind in (self.kinds or ()) and any(
            fnmatchcase(name, pattern) for name in names for pattern in self.names
        )


@dataclass(frozen=True)
class Policy:
    """Formats of a model's products.

    Attributes:
        weight: Q_W: name, format, `Quantizer`, or None for floating point. Default: 8-bit LNS with
            8 codes an octave, over 15.9 octaves.
        activation: Q_A, the same.
        error: Q_E. Default: 8-bit LNS with 4 codes an octave, over 31.5 octaves. Gradients need
            range more than resolution: of the gradient of a softmax over 35,000 words almost half
            lies more than 15.9 octaves under its largest value, and saturating that much to one
            code makes training diverge.
        gradient: Q_G, as Q_E.
        rules: Exceptions, `Rule`s; where several apply, a later one wins place by place.

    Raises:
        ValueError: Unknown format.
        TypeError: A place or a rule is something else.

    Example:
        >>> policy = Policy("lns8", "lns8", "lns8", "lns8", rules=[Rule.skip("head")])
        >>> print(policy.error)
        lns8+zero by tensor

    Source: Zhao et al. 2021 (LNS-Madam), arXiv:2106.13914: Q_W, Q_A, Q_E, Q_G.
    """

    weight: Given = "lns8"
    activation: Given = "lns8"
    error: Given = "lns8_b4"
    gradient: Given = "lns8_b4"
    rules: Iterable[Rule] = ()

    def __post_init__(self) -> None:
        for place in PLACES:
            object.__setattr__(self, place, quantizer_for(place, getattr(self, place)))
        rules = (self.rules,) if isinstance(self.rules, Rule) else tuple(self.rules)
        for rule in rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"`rules` must be rung.nn.Rule; got {type(rule).__name__}.")
        object.__setattr__(self, "rules", rules)

    def resolve(self, names: str | Iterable[str], kind: str) -> Quantizers:
        """The quantizers of a product.

        Args:
            names: Qualified name of the layer, or several if it is shared.
            kind: What the product is.
        """
        names = (names,) if isinstance(names, str) else tuple(names)
        places = {place: getattr(self, place) for place in PLACES}
        for rule in self.rules:
            if rule.applies(names, kind):
                own = {place: getattr(rule, place) for place in PLACES}
                places |= {place: given for place, given in own.items() if given is not INHERIT}
        return Quantizers(**places)
