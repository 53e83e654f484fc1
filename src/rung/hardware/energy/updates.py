"""What the optimizer's step does for every weight."""

from collections.abc import Mapping
from dataclasses import dataclass

from rung.hardware.energy.scaling import Terms


@dataclass(frozen=True, slots=True)
class Update:
    """The update of one weight.

    Attributes:
        name: Of the optimizer.
        weight_bits: The weight that is read and written.
        state_bits: All of its state, read and written.
        operations: Arithmetic, in rows of the cost table.
    """

    name: str
    weight_bits: int
    state_bits: int
    operations: Terms


_UPDATES = (
    # Momentum, weight decay.
    Update("sgd", 32, 32, {"fp32_multiply": 3, "fp32_add": 3}),
    # Two moments (5 multiplies, 2 adds), square root, scale, epsilon, division, step, decay.
    Update("adamw", 32, 64, {"fp32_multiply": 8, "fp32_add": 4, "fp32_divide": 2}),
    # Second moment in bfloat16 (3 multiplies, 1 add), its scale, square root, division, gamma * lr;
    # then the exponent: an addition and a comparison of 16 bits.
    Update(
        "lns-madam",
        16,
        16,
        {"fp32_multiply": 5, "fp32_add": 1, "fp32_divide": 2, "int16_add": 2},
    ),
)
UPDATES: Mapping[str, Update] = {update.name: update for update in _UPDATES}
"""Updates by name; AdamW and SGD keep the weight in float32, LNS-Madam in 16-bit codes."""


def update_of(name: str) -> Update:
    """The update of a name.

    Raises:
        ValueError: No update has this name; the text lists those that exist.
    """
    if name not in UPDATES:
        raise ValueError(f"Unknown update {name!r}; the updates are: {', '.join(UPDATES)}.")
    return UPDATES[name]
