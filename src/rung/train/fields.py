"""Fields that check themselves: types and ranges read from a dataclass's annotations."""

import math
import types
import typing
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, Union


@dataclass(frozen=True)
class Range:
    """Numbers that a field may hold; `low_open` and `high_open` leave the end itself out."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"greater than {self.low:g}" if self.low_open else f"at least {self.low:g}"
        opening, closing = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"in {opening}{self.low:g}, {self.high:g}{closing}"


Count = Annotated[int, Range(low=1)]
"""An integer of at least 1."""

Pixels = Annotated[int, Range(low=0)]
"""An integer of at least 0."""

Positive = Annotated[float, Range(low=0, low_open=True)]
"""A finite number greater than 0."""

NonNegative = Annotated[float, Range(low=0)]
"""A finite number of at least 0."""

Fraction = Annotated[float, Range(low=0, high=1, high_open=True)]
"""A number from 0 up to, but not with, 1."""


def check_fields(owner: Any) -> None:
    """Compare every field of a dataclass with its annotation.

    Args:
        owner: A dataclass instance whose annotations are bool, int, float, str, a Literal, another
            class, one of these or None, or one of these with a `Range`.

    Raises:
        ValueError: A value is of another type, outside its range or not among the choices.
    """
    hints = typing.get_type_hints(type(owner), include_extras=True)
    for field in fields(owner):
        _check(field.name, getattr(owner, field.name), hints[field.name])


def parse_field(owner_type: type, name: str, text: str) -> Any:
    """Value of the field `name` from text, as typed on a command line.

    Args:
        owner_type: The dataclass.
        name: One of its fields.
        text: E.g. ``"64"``, ``"1e-3"``, ``"true"``, ``"none"`` where the field may be None.

    Raises:
        ValueError: The text isn't of the field's type. Ranges are checked by the dataclass itself.
    """
    hint = typing.get_type_hints(owner_type, include_extras=True)[name]
    kind, _, optional = _unwrap(hint)
    if optional and text.lower() == "none":
        return None
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float):
            return kind(text)
        if isinstance(_first_choice(kind), int):
            return int(text)
    except (KeyError, ValueError):
        raise ValueError(f"`{name}` must be {_describe(hint)}; got {text!r}.") from None
    return text


def _unwrap(hint: Any) -> tuple[Any, Range | None, bool]:
    """Bare type, range and whether None is allowed."""
    optional = False
    allowed: Range | None = None
    if typing.get_origin(hint) in (Union, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        optional = len(parts) < len(typing.get_args(hint))
        hint = parts[0] if len(parts) == 1 else Union[tuple(parts)]  # noqa: UP007
    if typing.get_origin(hint) is Annotated:
        hint, *extras = typing.get_args(hint)
        allowed = next((extra for extra in extras if isinstance(extra, Range)), None)
    return hint, allowed, optional


def _first_choice(kind: Any) -> Any:
    """Of a Literal, whose choices are of one type; None of others."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Literal else None


def _describe(hint: Any) -> str:
    kind, allowed, optional = _unwrap(hint)
    if typing.get_origin(kind) is Literal:
        text = "one of " + ", ".join(str(choice) for choice in typing.get_args(kind))
    else:
        names = {bool: "true or false", int: "an integer", float: "a number", str: "text"}
        text = names.get(kind) or f"of type {getattr(kind, '__name__', kind)}"
    if allowed is not None:
        text += f" {allowed}"
    return text + (" or none" if optional else "")


def _check(name: str, value: Any, hint: Any) -> None:
    kind, allowed, optional = _unwrap(hint)
    if value is None and optional:
        return
    if typing.get_origin(kind) is Literal:
        good = value in typing.get_args(kind)
    elif kind is float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
    elif kind is int:
        good = isinstance(value, int) and not isinstance(value, bool)
    else:
        good = isinstance(value, kind)
    if not good or (allowed is not None and value not in allowed):
        raise ValueError(f"`{name}` must be {_describe(hint)}; got {value!r}.")
