"""Named formats: instances only."""

from rung.formats.ladder import Ladder

_CATALOG: dict[str, Ladder] = {f"ladder{bits}": Ladder(bits) for bits in range(2, 17)}


def names() -> tuple[str, ...]:
    """All names that `get` knows."""
    return tuple(_CATALOG)


def get(name: str | Ladder) -> Ladder:
    """The format of a name; a format passes through.

    Args:
        name: ``"ladder2"`` to ``"ladder16"`` (the range of the paper's 12-bit ladder at every
            width), or a format.

    Raises:
        ValueError: No format has this name; the text lists those that exist.
        TypeError: Neither a name nor a format.

    Example:
        >>> get("ladder12")
        Ladder(bits=12, base_precision=0.001)
    """
    if isinstance(name, Ladder):
        return name
    if not isinstance(name, str):
        raise TypeError(f"A format is a name or a Ladder; got {type(name).__name__}.")
    if name not in _CATALOG:
        raise ValueError(f"Unknown format {name!r}; the formats are: {', '.join(names())}.")
    return _CATALOG[name]


def name_of(fmt: Ladder) -> str:
    """Catalog name of a format, or its repr when it has none."""
    for name, known in _CATALOG.items():
        if known == fmt:
            return name
    return repr(fmt)
