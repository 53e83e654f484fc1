"""The claim of one-byte training, from the arena's results file: README and docs/one-byte.md."""

import math
from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

from reproduce_tables import FOLDER, results
from result_files import measured

from rung.report.reproduced_data import against, bytes_of, finals, number, runs_of
from rung.reproduce.one_byte import OURS

Row = dict[str, Any]
BASE = "AdamW"
MOST = 4.5
"""Bytes a weight of the rivals that ours is to be better than: 4, and what float32 biases and gains
add in small networks."""


def summary() -> str:
    """Every measured task in a line: AdamW, the best small rival, ours."""
    lines = [
        "| task, loss | AdamW in float32, tuned | best other of about 4 bytes, tuned | "
        "one byte a weight, one lr for all | against AdamW, % |",
        "|---|---:|---:|---:|---:|",
    ]
    rows = [row for row in results("one-byte")["rows"] if row["status"] == "measured"]
    for row in rows:
        rival = _best_small(row)
        labels = (BASE, rival, OURS.label)
        cells = [_cell(row, label) for label in labels]
        cells[1] = f"{cells[1]}, {rival}"
        lines.append(
            f"| {row['title']} | {' | '.join(cells)} | {against(row, OURS.label, BASE):+.1f} |"
        )
    seeds = " or ".join(sorted({str(len(finals(row, OURS.label))) for row in rows}))
    note = (
        f"Means over {seeds} seeds and their standard errors; in brackets bytes a weight: weights "
        "and optimizer state, with the biases and gains that lift some rivals of 4 bytes a little "
        "above."
    )
    return "\n".join([*lines, "", note, ""])


def _cell(row: Row, label: str) -> str:
    values = finals(row, label)
    size = bytes_of(runs_of(row, label)[0])
    if len(values) == 1:  # while a row is being measured
        return f"{number(values[0], 3)} ({size:.2f})"
    error = stdev(values) / math.sqrt(len(values))
    return f"{number(mean(values), 3)} ± {number(error, 3)} ({size:.2f})"


def _best_small(row: Row) -> str:
    """The rival of the lowest loss among those of few bytes."""
    labels = [contestant["label"] for contestant in row["contestants"]]
    rivals = [
        label
        for label in labels
        if label != BASE and not label.startswith(OURS.label) and runs_of(row, label)
    ]
    small = [label for label in rivals if bytes_of(runs_of(row, label)[0]) <= MOST]
    return min(small, key=lambda label: mean(finals(row, label)))


TABLES: dict[str, Callable[[], str]] = {
    "one-byte-summary": measured(FOLDER / "one-byte.json", summary),
}
