"""Figure: distribution of ln|w| in every layer."""

import math
from typing import TYPE_CHECKING, Any

from rung.report import numbers, style
from rung.report.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 80
"""Most layers that one figure draws; beyond that the largest ones."""

_OUTSIDE = 0.002


def draw(run: Run) -> "Figure | None":
    """One hill a layer over a common axis of ln|w|, or None when there is nothing to draw."""
    layers = drawable_layers(run)
    if not layers:
        return None
    shown = largest(layers, MOST_ROWS)
    pitch = min(0.42, max(0.17, 9.0 / len(shown)))
    figure = style.new_figure(9, 1.15 + pitch * len(shown))
    axes = figure.add_subplot()
    for row, layer in enumerate(shown):
        edges, density = smooth(layer)
        peak = tallest(density)
        colour = style.BLUE if layer["rungs"] else style.MUTED
        heights = [row - 0.92 * min(1.0, value / peak) for value in density]
        axes.stairs(heights, edges, baseline=row, fill=True, color=colour, alpha=0.75, linewidth=0)
        axes.axhline(row, color=style.LINE, linewidth=0.6, zorder=0.5)
        _label_zeros(axes, layer, row)
    names = numbers.labels([layer["name"] for layer in shown], 34)
    axes.set_yticks(range(len(shown)), names, fontsize=8 if pitch > 0.25 else 6.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_ylim(len(shown) - 0.85, -1.05)
    axes.set_xlim(common_range(shown))
    axes.set_xlabel("ln|w| (natural logarithm of a weight's size)")
    _add_size_axis(axes)
    return figure


def _label_zeros(axes: "Axes", layer: dict[str, Any], row: int) -> None:
    zeros = layer["log_abs_w"]["zeros"]
    if zeros:
        axes.annotate(
            f"{numbers.percent(zeros / max(1, layer['numel']))} zero",
            (1.005, row - 0.12),
            xycoords=("axes fraction", "data"),
            fontsize=7,
            color=style.MUTED,
        )


def drawable_layers(run: Run) -> list[dict[str, Any]]:
    """Layers with at least one weight other than zero, in the order of the network."""
    layers = run.diagnostics["layers"] if run.diagnostics else []
    return [layer for layer in layers if layer["log_abs_w"] and sum(layer["log_abs_w"]["counts"])]


def largest(layers: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The ``most`` layers with most weights, in the order of the network."""
    order = sorted(range(len(layers)), key=lambda index: -layers[index]["numel"])
    return [layers[index] for index in sorted(order[:most])]


def smooth(layer: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Edges and density of a histogram whose bins hold at least two rungs and a few weights each.

    Bins as narrow as the gap between rungs would draw the ladder's teeth, not the distribution;
    and a layer of ten weights needs no more than a few bins.
    """
    histogram, rungs = layer["log_abs_w"], layer["rungs"]
    edges, counts = histogram["edges"], histogram["counts"]
    narrowest = min(b - a for a, b in zip(edges, edges[1:], strict=False))
    wanted = 2 * rungs["base_precision"] if rungs else 0.0
    merge = max(1, math.ceil(wanted / narrowest)) if narrowest > 0 else 1
    most_bins = 4 + 2 * math.isqrt(sum(counts))
    merge = max(merge, math.ceil(len(counts) / most_bins))
    # What is left over joins the last bin: a narrow bin of its own would look like a peak.
    starts = list(range(0, max(1, len(counts) - merge + 1), merge))
    ends = [*starts[1:], len(counts)]
    merged = [sum(counts[start:end]) for start, end in zip(starts, ends, strict=True)]
    kept = [*(edges[start] for start in starts), edges[-1]]
    widths = [max(b - a, 1e-12) for a, b in zip(kept, kept[1:], strict=False)]
    return kept, [count / width for count, width in zip(merged, widths, strict=True)]


def tallest(density: list[float]) -> float:
    """Density at full height: a pile on an end rung must not flatten the hill between."""
    filled = [value for value in density if value > 0]
    inner = max(filled[1:-1], default=0.0)
    highest = max(filled)
    return highest if inner == 0 or highest < 2.5 * inner else 1.4 * inner


def common_range(layers: list[dict[str, Any]]) -> tuple[float, float]:
    """Limits of ln|w| that leave out the smallest 0.2 % of any layer's weights."""
    low, high = math.inf, -math.inf
    for layer in layers:
        edges, counts = layer["log_abs_w"]["edges"], layer["log_abs_w"]["counts"]
        filled = [index for index, count in enumerate(counts) if count]
        budget = _OUTSIDE * sum(counts)
        start = filled[0]
        while budget > counts[start]:
            budget -= counts[start]
            start += 1
        low, high = min(low, edges[start]), max(high, edges[filled[-1] + 1])
    margin = max(0.05 * (high - low), 0.1)
    return low - margin, high + margin


def _add_size_axis(axes: "Axes") -> None:
    """|w| itself on the upper side."""
    upper = axes.twiny()
    upper.grid(False)
    low, high = axes.get_xlim()
    upper.set_xlim(low, high)
    decades = range(math.ceil(low / math.log(10)), math.floor(high / math.log(10)) + 1)
    steps = decades[:: max(1, math.ceil(len(decades) / 10))]
    upper.set_xticks([power * math.log(10) for power in steps], [f"{10.0**p:g}" for p in steps])
    upper.tick_params(length=2, labelsize=8, labelcolor=style.MUTED)
    upper.spines["top"].set_visible(True)
    upper.set_xlabel("|w|", fontsize=8, color=style.MUTED)
