"""The comparison as text: for the terminal, and cell by cell for the page."""

from collections.abc import Sequence

from rung.report import numbers
from rung.report.rows import Row, SeedGroup, seed_groups, unequal_conditions

HEADINGS = (
    "run",
    "recipe",
    "optimizer",
    "format",
    "seed",
    "metric",
    "final",
    "best",
    "weights",
    "state",
    "both",
    "ms/step",
    "status",
)
"""Columns of the table; weights, state and both are bytes per weight."""

RIGHT = frozenset({"seed", "final", "best", "weights", "state", "both", "ms/step"})
"""Columns of numbers, which end at the right."""

_LONGEST = {"run": 28, "recipe": 22}


def comparison_table(rows: Sequence[Row]) -> str:
    """Plain-text table of runs, with a line of mean and range for runs that differ by seed only.

    Args:
        rows: What `compare` returned.

    Returns:
        Lines without a final newline; a last paragraph says where conditions were not equal.
    """
    lines = [list(HEADINGS), *(cells(row) for row in rows)]
    for index, name in enumerate(HEADINGS):
        for line in lines[1:]:
            line[index] = numbers.shorten(line[index], _LONGEST.get(name, 40))
    widths = [max(len(line[index]) for line in lines) for index in range(len(HEADINGS))]
    printed = [_print_line(line, widths) for line in lines]
    printed.insert(1, "  ".join("-" * width for width in widths))
    text = (
        "\n".join(printed) + "\n\nweights, state, both: bytes per weight; AdamW float32 needs 12."
    )
    groups = seed_groups(rows)
    if groups:
        text += "\n\n" + "\n".join(f"{group_title(group)}: {spread(group)}" for group in groups)
    notes = unequal_conditions(rows)
    return text + ("\n\n" + "\n".join(notes) if notes else "")


def cells(row: Row) -> list[str]:
    """The cells of one run under `HEADINGS`."""
    config, metric = row.run.config, row.metric
    name = metric.name if metric else ""
    return [
        row.name,
        config["recipe"],
        config["optimizer"],
        config["format"] or "float32",
        str(config["seed"]),
        metric.title if metric else numbers.MISSING,
        numbers.metric(name, metric.final if metric else None),
        numbers.metric(name, metric.best if metric else None),
        numbers.fixed(row.weight_bytes),
        numbers.fixed(row.state_bytes),
        numbers.fixed(row.both_bytes),
        numbers.significant(row.ms_per_step),
        row.run.status,
    ]


def group_title(group: SeedGroup) -> str:
    """What a line of several seeds is about."""
    first = group.rows[0]
    return f"{first.run.config['recipe']}, {first.setup}"


def spread(group: SeedGroup) -> str:
    """Mean and range of the final metric, and of how many runs."""
    first = group.rows[0]
    metric = first.metric
    name = metric.name if metric else ""
    low, high = min(group.finals), max(group.finals)
    text = (
        f"{metric.title if metric else 'metric'} {numbers.metric(name, group.mean)}, "
        f"range {numbers.metric(name, low)} to {numbers.metric(name, high)} "
        f"({len(group.finals)} runs, {group.seeds} seeds)"
    )
    if group.left_out:
        text += f"; {group.left_out} more diverged or did not end and are not counted"
    return text


def _print_line(line: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        cell.rjust(width) if name in RIGHT else cell.ljust(width)
        for name, cell, width in zip(HEADINGS, line, widths, strict=True)
    ]
    return "  ".join(parts).rstrip()
