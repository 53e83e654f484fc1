"""Figure: which rungs weights in codes stand on, in total and by layer."""

import math
from typing import TYPE_CHECKING, Any

from rung.report import numbers, style
from rung.report.facts import edge_shares, levels_of, rungs_per_bin, system_of
from rung.report.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 4
ENDS, SIGNED_ENDS = ("top", "bottom"), ("lowest", "highest")
"""What the first and the last rung are called, where signs are apart and where they are not."""
SIGNED = ("sinh", "pair")
"""Systems whose rungs go from minus to plus the largest weight."""
MOST_PANELS = 24
"""Most layers that the figure draws one by one; beyond that the largest ones."""


def draw(run: Run) -> "Figure | None":
    """Histograms of the coded layers, or None when no layer is stored in codes."""
    layers = coded_layers(run)
    if not layers:
        return None
    totals = sum_by_ladder(layers)
    shown = sorted(layers, key=lambda layer: -layer["numel"])[:MOST_PANELS]
    # The largest layers are drawn, in the order of the network.
    shown = [layer for layer in layers if any(layer is other for other in shown)]
    columns = _COLUMNS if len(layers) > 1 else 0
    rows = math.ceil(len(shown) / _COLUMNS) if columns else 0
    figure = style.new_figure(9, 2.5 * len(totals) + 1.05 * rows)
    ratios = [2.5] * len(totals) + [1.05] * rows
    grid = figure.add_gridspec(len(ratios), _COLUMNS, height_ratios=ratios)
    for index, total in enumerate(totals):
        _draw_total(figure.add_subplot(grid[index, :]), total)
    titles = numbers.labels([layer["name"] for layer in shown], 26)
    for index, layer in enumerate(shown if columns else []):
        place = grid[len(totals) + index // _COLUMNS, index % _COLUMNS]
        _draw_layer(figure.add_subplot(place), layer, titles[index])
    return figure


def coded_layers(run: Run) -> list[dict[str, Any]]:
    """Layers whose weights stand on rungs, in the order of the network."""
    layers = run.diagnostics["layers"] if run.diagnostics else []
    return [layer for layer in layers if layer["rungs"] and sum(layer["rungs"]["counts"])]


def sum_by_ladder(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One histogram for each format in use, over all of its layers."""
    totals: dict[tuple[str, float, int], dict[str, Any]] = {}
    for layer in layers:
        rungs = layer["rungs"]
        key = (system_of(rungs), rungs["base_precision"], len(rungs["counts"]))
        blank = rungs | {"counts": [0] * len(rungs["counts"]), "layers": 0}
        total = totals.setdefault(key, blank)
        pairs = zip(total["counts"], rungs["counts"], strict=True)
        total["counts"] = [old + new for old, new in pairs]
        total["layers"] += 1
    return list(totals.values())


def _draw_total(axes: "Axes", total: dict[str, Any]) -> None:
    plural = "s" if total["layers"] > 1 else ""
    system = total.get("system")
    where = "codes of the" if system == "lns" else "the"
    axes.set_title(
        f"All {compact_total(total)} weights of {total['layers']} layer{plural} on "
        f"{where} {system_of(total)}",
        pad=6,
    )
    _draw_histogram(axes, total)
    width = rungs_per_bin(total)
    per = "rung" if width == 1 else f"{width} rungs"
    axes.set_ylabel(f"weights per {per} (%)")
    if system in SIGNED:
        axes.set_xlabel("rung k (0 is zero, the ends are the largest weights of either sign)")
        _label_edges(axes, total, SIGNED_ENDS)
        _add_signed_axis(axes, total)
        return
    top = "the largest code" if system == "lns" else "the top of the ladder"
    axes.set_xlabel(f"rung k (0 is {top}: the largest weights)")
    _label_edges(axes, total, ENDS)
    _add_size_axis(axes, total)


def compact_total(total: dict[str, Any]) -> str:
    """Number of weights in a histogram, short."""
    return numbers.compact(sum(total["counts"]))


def _draw_layer(axes: "Axes", layer: dict[str, Any], title: str) -> None:
    _draw_histogram(axes, layer["rungs"])
    style.bare(axes)
    axes.set_title(title, fontsize=8, fontweight="normal", pad=3)
    first = _first_rung(layer["rungs"])
    axes.set_xticks([first, first + levels_of(layer["rungs"]) - 1])
    axes.tick_params(labelsize=7.5, length=2, pad=2)
    shares = edge_shares(layer["rungs"])
    ends = SIGNED_ENDS if first else ENDS
    if shares:
        axes.annotate(
            f"{ends[0]} {numbers.percent(shares[0])}\n{ends[1]} {numbers.percent(shares[1])}",
            (0.985, 0.98),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=7,
            color=style.MUTED,
        )


def _first_rung(rungs: dict[str, Any]) -> int:
    """K of the first bin: 0, or -K where signs are free."""
    return -(levels_of(rungs) // 2) if rungs.get("system") in SIGNED else 0


def _draw_histogram(axes: "Axes", rungs: dict[str, Any]) -> None:
    counts, width = rungs["counts"], rungs_per_bin(rungs)
    shares = [100 * count / sum(counts) for count in counts]
    edges = [_first_rung(rungs) + index * width - 0.5 for index in range(len(counts) + 1)]
    axes.stairs(shares, edges, fill=True, color=style.BLUE, alpha=0.85, linewidth=0)
    last = len(counts) - 1
    # One rung of 256 would be a hair line: the two ends are drawn at a width that shows.
    thickness = max(width, (edges[-1] - edges[0]) / 90)
    for share, left in ((shares[0], edges[0]), (shares[last], edges[-1] - thickness)):
        axes.bar(left, share, width=thickness, align="edge", color=style.ORANGE)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, _ceiling(shares))


def _ceiling(shares: list[float]) -> float:
    """Top of the axis: a pile on an end rung must not flatten everything between."""
    inner = max(shares[1:-1], default=0.0)
    highest = max(shares)
    return 1.18 * (highest if inner == 0 or highest < 2.5 * inner else 1.4 * inner)


def _label_edges(axes: "Axes", total: dict[str, Any], ends: tuple[str, str]) -> None:
    shares = edge_shares(total)
    width = rungs_per_bin(total)
    what = "rung" if width == 1 else f"{width} rungs"
    for share, side, place in zip(
        shares or (), ends, ((0.015, "left"), (0.985, "right")), strict=bool(shares)
    ):
        beyond = " ↑" if 100 * share > axes.get_ylim()[1] else ""
        axes.annotate(
            f"{side} {what}: {numbers.percent(share)}{beyond}",
            (place[0], 0.97),
            xycoords="axes fraction",
            ha=place[1],
            va="top",
            color=style.INK,
            fontsize=8.5,
            bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
        )


def _add_size_axis(axes: "Axes", total: dict[str, Any]) -> None:
    """Size of a weight on each rung, exp(-k eta0) of the top rung, on the upper side."""
    spacing, levels = total["base_precision"], levels_of(total)
    if spacing <= 0:
        _upper_axis(axes, [], [])
        return
    reach = spacing * (levels - 1)
    # Halves, or tenths where a ladder spans many decades.
    ratio = 0.5 if reach < 6 else 0.1
    powers = range(int(reach / -math.log(ratio) + 1e-9) + 1)
    step = max(1, math.ceil(len(powers) / 10))
    ticks = [-math.log(ratio) * power / spacing for power in powers[::step]]
    _upper_axis(axes, ticks, [f"{ratio**power:.3g}" for power in powers[::step]])


def _add_signed_axis(axes: "Axes", total: dict[str, Any]) -> None:
    """Value of a weight on each rung, knee sinh(k h) of the top rung, on the upper side."""
    knee, spacing = total.get("knee"), total["base_precision"]
    if knee is None:
        return
    sizes = [1.0, 0.1, 0.01] if knee < 0.5 else [1.0, 0.5]
    sizes = [size for size in sizes if size > knee * spacing * levels_of(total) / 40]
    values = [*(-size for size in sizes), 0.0, *reversed(sizes)]
    ticks = [math.asinh(value / knee) / spacing for value in values]
    _upper_axis(axes, ticks, [f"{value:g}" for value in values])


def _upper_axis(axes: "Axes", ticks: list[float], words: list[str]) -> None:
    upper = axes.twiny()
    upper.grid(False)
    upper.set_xlim(axes.get_xlim())
    upper.set_xticks(ticks, words)
    if not ticks:
        return
    upper.tick_params(length=2, labelsize=8, labelcolor=style.MUTED)
    upper.spines["top"].set_visible(True)
    upper.set_xlabel("size of a weight as a part of the top rung", fontsize=8, color=style.MUTED)
