"""How a report writes numbers: few digits, a unit, and a dash for what is not known."""

import math
import os

MISSING = "–"


def count(value: float | None) -> str:
    """A whole number with separators: ``12,345``."""
    return MISSING if value is None else f"{value:,.0f}"


def compact(value: float) -> str:
    """A number of things in three digits: ``98.7 k``, ``50.1 M``."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.0f}"


def byte_size(value: float | None) -> str:
    """Bytes in decimal units: ``1.23 MB``."""
    if value is None:
        return MISSING
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= factor:
            return f"{value / factor:.2f} {unit}"
    return f"{value:.0f} B"


def fixed(value: float | None, digits: int = 2) -> str:
    """A fixed number of decimals: ``3.00``."""
    return MISSING if value is None else f"{value:,.{digits}f}"


def significant(value: float | None, digits: int = 3) -> str:
    """Significant digits without an exponent where one can read them: ``0.00108``."""
    if value is None:
        return MISSING
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    power = math.floor(math.log10(abs(value)))
    if -6 <= power < 6:
        return f"{value:,.{max(0, digits - 1 - power)}f}"
    return f"{value:.{digits - 1}e}"


def rate(value: float | None) -> str:
    """A learning rate as one types it: ``0.002``."""
    return MISSING if value is None else f"{value:.3g}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share from 0 to 1: ``4.2 %``."""
    return MISSING if share is None else f"{100 * share:.{digits}f} %"


def degrees(radians: float | None) -> str:
    """An angle: ``45.0°``."""
    return MISSING if radians is None else f"{math.degrees(radians):.1f}°"


def duration(seconds: float | None) -> str:
    """A time that people read: ``41 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def metric(name: str, value: float | None) -> str:
    """A metric's value: a fraction named accuracy or error in percent, others in four digits."""
    if value is None:
        return MISSING
    if is_fraction(name) and abs(value) <= 1:
        return percent(value, 2)
    return significant(value, 4)


def is_fraction(name: str) -> bool:
    """Whether a metric of this name is a share of the examples, which a report shows in percent."""
    return any(word in name.lower() for word in ("accuracy", "error"))


def labels(names: list[str], width: int) -> list[str]:
    """Names of at most ``width`` characters; too long ones first lose the dotted start they share.

    ``module.encoder.0.weight`` and ``module.encoder.1.weight`` become ``…0.weight``, ``…1.weight``.
    """
    if max(map(len, names), default=0) > width:
        shared = os.path.commonprefix(names)
        shared = shared[: shared.rfind(".") + 1]
        names = ["…" + name[len(shared) :] for name in names] if shared else names
    return [shorten(name, width) for name in names]


def shorten(text: str, width: int) -> str:
    """Text of at most ``width`` characters; a longer one loses its middle: ``encoder…weight``."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 3 // 5
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]
