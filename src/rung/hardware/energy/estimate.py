"""Sums of energies with the band that a cost table's uncertainty gives them."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rung.hardware.energy.cost_table import CostTable

Rows = Mapping[str, float]
"""Row of the cost table -> picojoules that it is paid in all, at its middle value."""


class Band(NamedTuple):
    """A figure, and the limits between which the cost table's uncertainty leaves it.

    Attributes:
        value: At the table's middle values.
        low: The smallest that rows inside their bands can give.
        high: The largest.
    """

    value: float
    low: float
    high: float


def sum_rows(parts: Iterable[Rows]) -> dict[str, float]:
    """Energies by row, added."""
    rows: dict[str, float] = {}
    for part in parts:
        for row, picojoules in part.items():
            rows[row] = rows.get(row, 0.0) + picojoules
    return rows


def energy_band(rows: Rows, costs: CostTable) -> Band:
    """Sum of energies by row: all rows at their low ends, and all at their high ends."""
    table = costs.rows
    return Band(
        value=sum(rows.values()),
        low=sum(table[row].low * picojoules for row, picojoules in rows.items()),
        high=sum(table[row].high * picojoules for row, picojoules in rows.items()),
    )


def saving_band(ours: Rows, theirs: Rows, costs: CostTable) -> Band:
    """1 - ours / theirs, each row at one value in both: what both pay for alike can't differ.

    Args:
        ours: Energies by row.
        theirs: Energies by row of what is compared with; their sum is above 0.
        costs: The table of both.

    Raises:
        ValueError: `theirs` is nothing.
    """
    whole = sum(theirs.values())
    if not whole:
        raise ValueError(
            "A saving is measured against an energy above 0; got 0 picojoules. Compare formats of "
            "a model that multiplies, with a cost table that isn't all zeros."
        )
    return Band(
        value=1 - sum(ours.values()) / whole,
        low=1 - _extreme_ratio(ours, theirs, costs, largest=True),
        high=1 - _extreme_ratio(ours, theirs, costs, largest=False),
    )


def _extreme_ratio(ours: Rows, theirs: Rows, costs: CostTable, *, largest: bool) -> float:
    # Dinkelbach: given a ratio r, ours - r theirs is linear in every row, so each goes to one end
    # of its band; the ratio there is more extreme than r until r is the extreme. Few rounds do.
    ratio, rows = sum(ours.values()) / sum(theirs.values()), {*ours, *theirs}
    for _ in range(50):
        above = below = 0.0
        for row in rows:
            a, b, cost = ours.get(row, 0.0), theirs.get(row, 0.0), costs.rows[row]
            factor = cost.high if (a > ratio * b) == largest else cost.low
            above, below = above + factor * a, below + factor * b
        found = above / below if below else ratio
        if found == ratio:
            break
        ratio = found
    return ratio
