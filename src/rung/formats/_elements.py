"""The elements that OCP's Microscaling Formats define, by name."""

from rung.formats.fixed_point import FixedPoint
from rung.formats.minifloat import Minifloat

ELEMENTS: dict[str, Minifloat | FixedPoint] = {
    "fp8_e4m3": Minifloat(4, 3, specials="nan"),
    "fp8_e5m2": Minifloat(5, 2, specials="ieee"),
    "fp6_e3m2": Minifloat(3, 2),
    "fp6_e2m3": Minifloat(2, 3),
    "fp4_e2m1": Minifloat(2, 1),
    "int8": FixedPoint(8, 6),
}


def element_name(given: Minifloat | FixedPoint) -> str:
    """The name of one of the six."""
    return next(name for name, known in ELEMENTS.items() if known == given)


def element(given: Minifloat | FixedPoint | str) -> Minifloat | FixedPoint:
    """The element of a name, or one of those six as it is.

    Raises:
        ValueError: Not an element of the MX formats; the text lists those.
    """
    known = ELEMENTS.get(given) if isinstance(given, str) else given
    if known not in ELEMENTS.values():
        raise ValueError(
            f"`element` must be one that MX defines: {', '.join(ELEMENTS)}; got {given!r}. Any "
            "other Minifloat is a format of its own, with blocks by `block`."
        )
    assert known is not None
    return known
