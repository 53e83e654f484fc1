"""The comparison as text: for the terminal, and cell by cell for the page."""

from collections.abc import Sequence

from rung.report import numbers
from rung.report.facts import formats_of
from rung.report.rows import Row, SeedGroup, seed_groups, unequal_conditions

HEADINGS = (
    "run",
    "optimizer",
    "format",
    "seed",
    "final",
    "best",
    "weights",
    "state",
    "both",
    "ms/step",
    "status",
)
"""Columns of a recipe's table; weights, state and both are bytes per weight."""

RIGHT = frozenset({"seed", "final", "best", "weights", "state", "both", "ms/step"})
"""Columns of numbers, which end at the right."""

_LONGEST_RUN = 36


def comparison_table(rows: Sequence[Row]) -> str:
    """Plain-text table of runs, one block for each recipe and metric.

    Below a block stand mean and range of runs that differ by their seed only, and a warning where
    runs of the recipe were not made under equal conditions.

    Args:
        rows: What `compare` returned.

    Returns:
        Lines without a final newline.
    """
    blocks = [_block(title, same) for title, same in by_recipe(rows).items()]
    blocks.append("weights, state, both: bytes per weight; AdamW in float32 needs 12.")
    return "\n\n".join(blocks)


def by_recipe(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows that one table and one picture can hold: one recipe, judged by one metric."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        metric = row.metric.title if row.metric else "no metric yet"
        groups.setdefault(f"{row.run.config['recipe']}: {metric}", []).append(row)
    return groups


def cells(row: Row) -> list[str]:
    """The cells of one run under `HEADINGS`."""
    config, metric = row.run.config, row.metric
    name = metric.name if metric else ""
    return [
        row.name,
        config["optimizer"],
        formats_of(row.run) or "float32",
        str(config["seed"]),
        numbers.metric(name, metric.final if metric else None),
        numbers.metric(name, metric.best if metric else None),
        numbers.fixed(row.weight_bytes),
        numbers.fixed(row.state_bytes),
        numbers.fixed(row.both_bytes),
        numbers.significant(row.ms_per_step),
        row.run.status,
    ]


def spread(group: SeedGroup) -> str:
    """Mean and range of the final metric, and of how many runs."""
    metric = group.rows[0].metric
    name = metric.name if metric else ""
    low, high = min(group.finals), max(group.finals)
    text = (
        f"mean {numbers.metric(name, group.mean)}, "
        f"range {numbers.metric(name, low)} to {numbers.metric(name, high)} "
        f"({len(group.finals)} runs, {group.seeds} seeds)"
    )
    if group.left_out:
        text += f"; {group.left_out} more diverged or did not end and are not counted"
    return text


def _block(title: str, rows: Sequence[Row]) -> str:
    lines = [list(HEADINGS), *(cells(row) for row in rows)]
    for line in lines:
        line[0] = numbers.shorten(line[0], _LONGEST_RUN)
    widths = [max(len(line[index]) for line in lines) for index in range(len(HEADINGS))]
    printed = [_print_line(line, widths) for line in lines]
    printed.insert(1, "  ".join("-" * width for width in widths))
    printed.insert(0, title + _direction(rows))
    printed += [f"{group.rows[0].setup}: {spread(group)}" for group in seed_groups(rows)]
    return "\n".join(printed + unequal_conditions(rows))


def _direction(rows: Sequence[Row]) -> str:
    metric = rows[0].metric
    if metric is None:
        return ""
    return f" ({'higher' if metric.higher_is_better else 'lower'} is better)"


def _print_line(line: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        cell.rjust(width) if name in RIGHT else cell.ljust(width)
        for name, cell, width in zip(HEADINGS, line, widths, strict=True)
    ]
    return "  ".join(parts).rstrip()
