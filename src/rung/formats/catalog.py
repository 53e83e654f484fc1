"""Named formats: instances only."""

import re
from typing import overload

from rung.formats._format import Format
from rung.formats.ladder import Ladder
from rung.formats.lns import LNS

_LADDERS = {f"ladder{bits}": Ladder(bits) for bits in range(2, 17)}
# gamma = 2^(B - 5) keeps about 15.9 octaves at every width; 4 bits can't have less than 1.
_LNS = {f"lns{bits}": LNS(bits, 1 << max(0, bits - 5)) for bits in range(4, 17)}
_CATALOG: dict[str, Ladder | LNS] = {**_LADDERS, **_LNS}
_LNS_NAME = re.compile(r"lns(\d+)(?:_b(\d+))?(\+zero)?")


def names() -> tuple[str, ...]:
    """The names of the catalog; `get` knows variants of the LNS ones besides."""
    return tuple(_CATALOG)


@overload
def get(name: str | Ladder | LNS) -> Ladder | LNS: ...


@overload
def get(name: str | Format) -> Format: ...


def get(name: str | Format) -> Format:
    """The format of a name; a format passes through, whoever wrote it.

    Args:
        name: ``"ladder2"`` to ``"ladder16"`` (the range of the paper's 12-bit ladder at every
            width); ``"lns4"`` to ``"lns16"`` (about 16 octaves at every width but 4 bits, which has
            7; ``lns8`` has base factor 8); ``"lns8_b4"`` for another base factor; with ``"+zero"``
            at the end, code e = 0 is exactly 0. Or a format.

    Raises:
        ValueError: No format has this name; the text lists those that exist.
        TypeError: Neither a name nor a format.

    Example:
        >>> get("ladder12")
        Ladder(bits=12, base_precision=0.001)
        >>> get("lns6_b4+zero")
        LNS(bits=6, base_factor=4, zero=True, underflow='saturate', power_of_two_scale=False)
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
    variant = _LNS_NAME.fullmatch(name)
    if variant is None:
        raise ValueError(
            f"Unknown format {name!r}; the formats are: {', '.join(names())}; an LNS of another "
            "base factor is named like 'lns8_b4', one with a zero code like 'lns8+zero'."
        )
    bits, factor, zero = variant.groups()
    default = max(0, int(bits) - 5)
    return LNS(int(bits), int(factor) if factor else 1 << min(default, 11), zero=bool(zero))


def name_of(fmt: object) -> str:
    """Catalog name of a format (variants of LNS included), or its repr when it has none."""
    for name, known in _CATALOG.items():
        if known == fmt:
            return name
    if isinstance(fmt, LNS):
        usual = _CATALOG.get(f"lns{fmt.bits}")
        same = isinstance(usual, LNS) and usual.base_factor == fmt.base_factor
        factor = "" if same else f"_b{fmt.base_factor}"
        name = f"lns{fmt.bits}{factor}{'+zero' if fmt.zero else ''}"
        if fmt == LNS(fmt.bits, fmt.base_factor, fmt.zero):
            return name
    return repr(fmt)
