"""Named formats: instances only."""

import math
import re
from typing import overload

from rung.formats._elements import ELEMENTS
from rung.formats._format import Format
from rung.formats.fixed_point import FixedPoint
from rung.formats.ladder import Ladder
from rung.formats.lns import LNS
from rung.formats.minifloat import Minifloat
from rung.formats.mx import MX
from rung.formats.pair import Pair
from rung.formats.sinh import Sinh

Known = Ladder | LNS | Sinh | Pair | Minifloat | FixedPoint | MX

_LADDERS = {f"ladder{bits}": Ladder(bits) for bits in range(2, 17)}
# gamma = 2^(B - 5) keeps about 15.9 octaves at every width; 4 bits can't have less than 1.
_LNS = {f"lns{bits}": LNS(bits, 1 << max(0, bits - 5)) for bits in range(4, 17)}
# Beside a scale of 0.6 small weights move by 0.018 of a change of theta: docs/one-byte.md, 5.
_KNEE = 0.03
_SINH = {f"sinh{bits}": Sinh(bits, _KNEE) for bits in range(4, 13)}
_PAIRS = {f"pair{bits}": Pair(bits, _KNEE) for bits in range(8, 17, 2)}
_FLOATS = {
    "bf16": Minifloat(8, 7, specials="ieee"),
    "fp16": Minifloat(5, 10, specials="ieee"),
}
# There is one element of 4 bits: its layout needs no name.
_MX = {"mxfp4" if name == "fp4_e2m1" else f"mx{name}": MX(name) for name in ELEMENTS}
_CATALOG: dict[str, Known] = {**_LADDERS, **_LNS, **_SINH, **_PAIRS, **_FLOATS, **ELEMENTS, **_MX}
_LADDER_NAME = re.compile(r"ladder(\d+)\+range(\d+(?:\.\d+)?(?:e\d+)?)")
# More would find a range beside any base precision, and hide that it was a round one.
_RANGE_DIGITS = 12
_LNS_NAME = re.compile(r"lns(\d+)(?:_b(\d+))?(\+zero)?")
_KNEE_NAME = re.compile(r"(sinh|pair)(\d+)(?:\+knee(\d+(?:\.\d+)?(?:e-?\d+)?))?")
_MX_NAME = re.compile(r"(mx\w+?)(?:_k(\d+))?(?:\+(\w+))?")


def names() -> tuple[str, ...]:
    """The names of the catalog; `get` knows variants of most besides."""
    return tuple(_CATALOG)


@overload
def get(name: str | Known) -> Known: ...


@overload
def get(name: str | Format) -> Format: ...


def get(name: str | Format) -> Format:
    """The format of a name; a format passes through, whoever wrote it.

    Args:
        name: ``"ladder2"`` to ``"ladder16"`` (the range of the paper's 12-bit ladder at every
            width), ``"ladder8+range30"`` for another dynamic range (largest over smallest weight);
            ``"lns4"`` to ``"lns16"`` (about 16 octaves at every width but 4 bits, which has
            7; ``lns8`` has base factor 8); ``"lns8_b4"`` for another base factor; with ``"+zero"``
            at the end, code e = 0 is exactly 0; ``"sinh4"`` to ``"sinh12"`` (knee 0.03),
            ``"sinh8+knee0.1"`` for another knee; ``"pair8"`` to ``"pair16"`` of even bits and
            ``"pair16+knee0.1"`` alike; ``"bf16"``, ``"fp16"``, ``"fp8_e4m3"``,
            ``"fp8_e5m2"``, ``"fp6_e3m2"``, ``"fp6_e2m3"``, ``"fp4_e2m1"``, ``"int8"``; each of the
            last six in blocks as ``"mxfp8_e4m3"`` to ``"mxint8"`` (``"mxfp4"`` is
            ``"mxfp4_e2m1"``), ``"mxfp4_k16"`` for another block size and ``"mxfp4+ceil"`` for
            another scale rule. Or a format.

    Raises:
        ValueError: No format has this name, and the text lists those that exist; or a name asks
            for what no format of its kind can have.
        TypeError: Neither a name nor a format.

    Example:
        >>> get("ladder12")
        Ladder(bits=12, base_precision=0.001)
        >>> round(get("ladder8+range30").dynamic_range, 9)
        30.0
        >>> get("lns6_b4+zero")
        LNS(bits=6, base_factor=4, zero=True, underflow='saturate', power_of_two_scale=False)
        >>> get("mxfp4_k16+ceil") == MX("fp4_e2m1", block_size=16, scale_rule="ceil")
        True
    """
    if not isinstance(name, str):
        if isinstance(name, type) or not callable(getattr(name, "quantize", None)):
            raise TypeError(
                "A format is a name, or a value with `quantize` such as a Ladder or an LNS; got "
                f"{type(name).__name__}."
            )
        return name
    if name in _CATALOG:
        return _CATALOG[name]
    variant = _ladder_of(name) or _lns_of(name) or _kneed_of(name) or _mx_of(name)
    if variant is None:
        raise ValueError(
            f"Unknown format {name!r}; the formats are: {', '.join(names())}; a ladder of another "
            "dynamic range is named like 'ladder8+range30', an LNS of another base factor like "
            "'lns8_b4', one with a zero code like 'lns8+zero', a sinh ladder of another knee like "
            "'sinh8+knee0.1', a pair of ladders alike, an MX of another block size or scale rule "
            "like 'mxfp4_k16+ceil'."
        )
    return variant


def _ladder_of(name: str) -> Ladder | None:
    """The ladder of a variant's name."""
    variant = _LADDER_NAME.fullmatch(name)
    if variant is None:
        return None
    bits, span = int(variant[1]), float(variant[2])
    if not 2 <= bits <= 16 or not 1 < span < math.inf:
        raise ValueError(
            "A ladder's name must have 2 to 16 bits and a range greater than 1, the largest weight "
            f"over the smallest; got {name!r}. Name it like 'ladder8+range30'."
        )
    return Ladder(bits, math.log(span) / (2**bits - 1))


def _lns_of(name: str) -> LNS | None:
    """The LNS of a variant's name."""
    variant = _LNS_NAME.fullmatch(name)
    if variant is None:
        return None
    bits, factor, zero = variant.groups()
    default = max(0, int(bits) - 5)
    return LNS(int(bits), int(factor) if factor else 1 << min(default, 11), zero=bool(zero))


def _kneed_of(name: str) -> Sinh | Pair | None:
    """The sinh ladder or pair of ladders of a variant's name."""
    variant = _KNEE_NAME.fullmatch(name)
    if variant is None:
        return None
    kind = Sinh if variant[1] == "sinh" else Pair
    return kind(int(variant[2]), float(variant[3] or _KNEE))


def _mx_of(name: str) -> MX | None:
    """The MX of a variant's name."""
    variant = _MX_NAME.fullmatch(name)
    if variant is None:
        return None
    base, size, rule = variant.groups()
    known = _MX.get("mxfp4" if base == "mxfp4_e2m1" else base)
    return None if known is None else MX(known.element, int(size or 32), rule or "floor")


def name_of(fmt: object) -> str:
    """Catalog name of a format (variants included), or its repr when it has none."""
    for name, known in _CATALOG.items():
        if known == fmt:
            return name
    if isinstance(fmt, Ladder):
        return _name_of_ladder(fmt) or repr(fmt)
    if isinstance(fmt, LNS):
        usual = _CATALOG.get(f"lns{fmt.bits}")
        same = isinstance(usual, LNS) and usual.base_factor == fmt.base_factor
        factor = "" if same else f"_b{fmt.base_factor}"
        name = f"lns{fmt.bits}{factor}{'+zero' if fmt.zero else ''}"
        if fmt == LNS(fmt.bits, fmt.base_factor, fmt.zero):
            return name
    if isinstance(fmt, Sinh | Pair):
        knee = "" if fmt.knee == _KNEE else f"+knee{fmt.knee!r}".replace("e-0", "e-")
        return f"{type(fmt).__name__.lower()}{fmt.bits}{knee}"
    if isinstance(fmt, MX):
        base = name_of(MX(fmt.element))
        size = "" if fmt.block_size == 32 else f"_k{fmt.block_size}"
        rule = "" if fmt.scale_rule == "floor" else f"+{fmt.scale_rule}"
        return f"{base}{size}{rule}"
    return repr(fmt)


def _name_of_ladder(fmt: Ladder) -> str | None:
    """The shortest name that `get` makes this ladder of; None if no short range gives it."""
    for digits in range(1, _RANGE_DIGITS + 1):
        span = float(f"{fmt.dynamic_range:.{digits}g}")
        if span > 1 and Ladder(fmt.bits, math.log(span) / (fmt.levels - 1)) == fmt:
            text = f"{span:.{max(digits, 6)}g}".replace("e+0", "e").replace("e+", "e")
            return f"ladder{fmt.bits}+range{text}"
    return None
