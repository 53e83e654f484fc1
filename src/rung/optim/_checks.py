"""What every optimizer refuses in the same words."""

from typing import Any

Group = dict[str, Any]
ADDITIVE = "adamw"
"""Algorithm of groups that torch's AdamW trains."""


def describe(group: Group, index: int, position: int) -> str:
    """Name of a parameter for messages: its own if the group knows it, else its place."""
    place = f"parameter {position} of group {index}"
    if "param_names" in group:
        return f"{place} ('{group['param_names'][position]}')"
    return place


def check_range(name: str, value: Any, holds: Any, valid: str) -> None:
    """Refuse a hyper-parameter outside its range (NaN fails every comparison)."""
    if not bool(holds):
        raise ValueError(f"`{name}` must be {valid}; got {name}={value}.")


def check_choice(name: str, value: Any, valid: tuple[str, ...]) -> None:
    """Refuse an unknown choice and list the valid ones."""
    if value not in valid:
        choices = ", ".join(repr(choice) for choice in valid)
        raise ValueError(f"`{name}` must be one of {choices}; got {name}={value!r}.")
