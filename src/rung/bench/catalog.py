"""All rows, and those of given names."""

import difflib
from collections.abc import Sequence

from rung.bench.gpu import gpu_rows
from rung.bench.linear import linear_rows
from rung.bench.memory import memory_rows
from rung.bench.one_byte import one_byte_rows
from rung.bench.quantizers import quantizer_rows
from rung.bench.row import Row
from rung.bench.steps import step_rows
from rung.bench.training import training_rows


def all_rows(device: str = "cpu") -> list[Row]:
    """In the order of the table; a GPU has a table of its own."""
    if device != "cpu":
        return [*gpu_rows()]
    return [
        *step_rows(),
        *quantizer_rows(),
        *training_rows(),
        *one_byte_rows(),
        *linear_rows(),
        *memory_rows(),
    ]


def rows_of(names: Sequence[str], device: str = "cpu") -> list[Row]:
    """The rows of these names, or all without any.

    Raises:
        ValueError: No such row; the text lists the rows.
    """
    rows = {row.name: row for row in all_rows(device)}
    for name in names:
        if name not in rows:
            near = difflib.get_close_matches(name, rows, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"Unknown row {name!r}; the rows on {device} are: {', '.join(rows)}.{hint}"
            )
    return [rows[name] for name in names] if names else list(rows.values())
