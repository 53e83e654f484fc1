"""Figure: how ln w+ and ln w- of LMD's weights are spread, beside a normal distribution."""

import math
from typing import TYPE_CHECKING, Any

from rung.report import numbers, style
from rung.report.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TENSORS = 8
"""Most tensors that the figure draws; of more, some evenly from first to last."""

_SIDES = (("positive", "w+", style.BLUE), ("negative", "w−", style.VERMILLION))
_POINTS = 200


def draw(run: Run) -> "Figure | None":
    """A row of panels a tensor, a column a moment of the run; None without histograms."""
    moments = snapshots(run)
    if not moments:
        return None
    names = shown_names(moments)
    figure = style.new_figure(9, 0.9 + 1.25 * len(names))
    grid = figure.subplots(len(names), len(moments), squeeze=False, sharex="row")
    labels = numbers.labels(names, 44)
    for row, name in enumerate(names):
        for column, record in enumerate(moments):
            axes = grid[row][column]
            tensor = {tensor["name"]: tensor for tensor in record["tensors"]}.get(name)
            style.bare(axes)
            if tensor is not None:
                _draw_panel(axes, tensor)
            if row == 0:
                axes.set_title(f"step {numbers.count(record['step'])}", loc="right")
        grid[row][0].set_title(labels[row], fontsize=8.5)
    for axes in grid[-1]:
        axes.set_xlabel("ln(median / m0)")
    handles, texts = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper left", ncols=4)
    return figure


def snapshots(run: Run) -> list[dict[str, Any]]:
    """The records drawn: the start, the first evaluation after it, and the last one."""
    records = run.medians_records
    return records if len(records) <= 3 else [*records[:2], records[-1]]


def shown_names(moments: list[dict[str, Any]]) -> list[str]:
    """Tensors that get a row."""
    names = [tensor["name"] for tensor in moments[-1]["tensors"]]
    if len(names) <= MOST_TENSORS:
        return names
    last = len(names) - 1
    # As the run chose which tensors to record; nothing of it is imported, for a report is made from
    # a run's folder alone.
    return [names[round(i * last / (MOST_TENSORS - 1))] for i in range(MOST_TENSORS)]


def rows(run: Run) -> list[list[str]]:
    """Table behind the figure: the fits of all tensors at the last evaluation."""
    records = run.medians_records
    found = records[-1]["tensors"] if records else []
    return [
        [
            tensor["name"],
            sign,
            numbers.fixed(tensor[side]["mean"]),
            numbers.fixed(tensor[side]["std"]),
            *(numbers.fixed(tensor[side][key]) for key in ("skewness", "excess_kurtosis")),
            numbers.fixed(tensor[side]["ks"], 3),
        ]
        for tensor in found
        for side, sign, _ in _SIDES
    ]


def density(side: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Edges and density of a histogram, whose area is 1."""
    low, high, counts = side["low"], side["high"], side["counts"]
    width = max((high - low) / max(1, len(counts)), 1e-12)
    total = max(1, sum(counts))
    edges = [low + width * i for i in range(len(counts) + 1)]
    return edges, [count / total / width for count in counts]


def normal(side: dict[str, Any], at: list[float]) -> list[float]:
    """Density of the normal distribution of a histogram's mean and standard deviation."""
    mean, std = side["mean"], side["std"]
    peak = 1.0 / (std * math.sqrt(2 * math.pi))
    return [peak * math.exp(-0.5 * ((x - mean) / std) ** 2) for x in at]


def _draw_panel(axes: "Axes", tensor: dict[str, Any]) -> None:
    tallest = max(_cap(tensor[side]) for side, _, _ in _SIDES)
    notes = []
    for side, sign, colour in _SIDES:
        found = tensor[side]
        edges, heights = density(found)
        shown = [min(height, tallest) for height in heights]
        axes.stairs(shown, edges, fill=True, color=colour, alpha=0.35, label=f"ln {sign}")
        if found["std"] > 0:
            low = max(found["mean"] - 4 * found["std"], edges[0] - found["std"])
            high = min(found["mean"] + 4 * found["std"], edges[-1] + found["std"])
            at = [low + (high - low) * i / (_POINTS - 1) for i in range(_POINTS)]
            label = f"normal fit of ln {sign}"
            axes.plot(at, normal(found, at), color=colour, linewidth=1.2, label=label)
        notes.append(f"{sign} {numbers.fixed(found['ks'], 3)}")
    # Room for the note above the tallest bar.
    axes.set_ylim(0, 1.3 * tallest)
    axes.annotate(
        f"KS  {',  '.join(notes)}",
        (0.01, 0.98),
        xycoords="axes fraction",
        va="top",
        fontsize=7,
        color=style.MUTED,
    )


def _cap(side: dict[str, Any]) -> float:
    """Height of a panel: that of the tallest bar, but at most twice that of the fit.

    A pile of equal medians, as at the start, would flatten all the rest.
    """
    tallest = max(density(side)[1], default=0.0) or 1.0
    if side["std"] <= 0:
        return tallest
    peak = normal(side, [side["mean"]])[0]
    return max(peak, min(tallest, 2 * peak))
