"""The table of a sweep: one line for each setting, its seeds together."""

from rung.report import numbers
from rung.report.sweep_data import Setting, Sweep

RIGHT = frozenset({"lr", "bits", "mean", "min", "max", "weights", "state", "ms/step"})
"""Columns of numbers, which end at the right."""


def headings(sweep: Sweep) -> list[str]:
    """Names of the table's columns; a grid without an axis of bits has no such column."""
    bits = ["bits"] if sweep.record["grid"]["bits"] else []
    rest = ["mean", "min", "max", "weights", "state", "ms/step", "runs"]
    return ["optimizer", "lr", *bits, *rest]


def cells(sweep: Sweep, setting: Setting) -> list[str]:
    """The cells of one setting under `headings`."""
    name = sweep.metric.name if sweep.metric else ""
    finals = setting.finals
    bits = [] if setting.bits is None else [str(setting.bits)]
    return [
        setting.optimizer,
        "its own" if setting.lr is None else f"{setting.lr:g}",
        *bits,
        numbers.metric(name, setting.mean),
        numbers.metric(name, min(finals, default=None)),
        numbers.metric(name, max(finals, default=None)),
        numbers.fixed(setting.average("weights_per_weight")),
        numbers.fixed(setting.average("state_per_weight")),
        numbers.significant(setting.average("ms_per_step")),
        outcome(setting),
    ]


def outcome(setting: Setting) -> str:
    """How many runs of a setting finished, diverged and have not ended: ``2, 1 diverged``."""
    parts = [str(len(setting.finals))]
    for status in ("diverged", "unfinished"):
        if setting.count(status):
            parts.append(f"{setting.count(status)} {status}")
    return ", ".join(parts)


def sweep_table(sweep: Sweep) -> str:
    """Plain-text table of a sweep.

    Args:
        sweep: What `read_sweep` returned.

    Returns:
        Lines without a final newline.
    """
    names = headings(sweep)
    lines = [names, *(cells(sweep, setting) for setting in sweep.settings)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    printed = [
        "  ".join(
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(names, line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
    printed.insert(1, "  ".join("-" * width for width in widths))
    printed.insert(0, title(sweep))
    printed.append(
        "mean, min, max: over the seeds that finished; weights, state: bytes per weight."
    )
    return "\n".join(printed)


def title(sweep: Sweep) -> str:
    """``digits-cnn: final test accuracy (higher is better)``."""
    metric = sweep.metric
    if metric is None:
        return f"{sweep.record['recipe']}: no run has ended yet"
    better = "higher" if metric.higher_is_better else "lower"
    return f"{sweep.record['recipe']}: final {metric.title} ({better} is better)"
