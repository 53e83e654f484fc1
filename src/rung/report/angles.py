"""Figure: the learning rate in use beside what Theorem 1 allows for every layer."""

import math
from typing import TYPE_CHECKING, Any

from rung.report import numbers, style
from rung.report.facts import in_nats, is_multiplicative, layer_bound
from rung.report.run import Run
from rung.report.weights import MOST_ROWS, largest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(run: Run) -> "Figure | None":
    """A dot for each layer's bound and a line at the learning rate, or None without angles."""
    layers = layers_with_angle(run)
    if not layers or run.diagnostics is None:
        return None
    depth = run.diagnostics["depth"]
    # An additive optimizer's rate is no relative change and has no place on this axis.
    comparable = is_multiplicative(run)
    lr = in_nats(run, run.diagnostics["lr"]) if comparable else None
    first = in_nats(run, run.config.get("lr")) if comparable else None
    # A rate of 0 ends a cosine schedule: the rate at the start is what to look at then.
    used = lr or first
    shown = largest(layers, MOST_ROWS)
    bounds = [layer_bound(layer["angle"], depth) or 0.0 for layer in shown]
    pitch = min(0.3, max(0.16, 9.0 / len(shown)))
    figure = style.new_figure(9, 1.35 + pitch * len(shown))
    axes = figure.add_subplot()
    safe = [row for row, bound in enumerate(bounds) if used is None or bound >= used]
    beyond = [row for row in range(len(bounds)) if row not in set(safe)]
    left = _set_log_axis(axes, [*bounds, lr or 0.0, first or 0.0])
    for rows, colour, marker, label in (
        (safe, style.BLUE, "o", "bound of a layer"),
        (beyond, style.VERMILLION, "D", "bound of a layer, below the learning rate"),
    ):
        if rows:
            values = [max(bounds[row], left) for row in rows]
            axes.plot(values, rows, marker, color=colour, markersize=5, label=label)
    _mark_rates(axes, lr, first, run.diagnostics["step"])
    names = numbers.labels([layer["name"] for layer in shown], 34)
    axes.set_yticks(range(len(shown)), names, fontsize=8 if pitch > 0.22 else 6.5)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("learning rate (relative change of a weight in one step)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    return figure


def _mark_rates(axes: "Axes", lr: float | None, first: float | None, step: int) -> None:
    if lr:
        label = f"learning rate at step {numbers.count(step)}: {numbers.rate(lr)}"
        axes.axvline(lr, color=style.INK, linewidth=1.2, label=label)
    if first and first != lr:
        label = f"at the start: {numbers.rate(first)}"
        axes.axvline(first, color=style.INK, linewidth=1.2, linestyle=(0, (4, 3)), label=label)


def layers_with_angle(run: Run) -> list[dict[str, Any]]:
    """Layers whose angle is defined, in the order of the network."""
    layers = run.diagnostics["layers"] if run.diagnostics else []
    return [layer for layer in layers if layer["angle"] is not None]


def _set_log_axis(axes: "Axes", values: list[float]) -> float:
    """Logarithmic limits around the values; returns the left one, where bounds of 0 are put."""
    known = [value for value in values if value > 1e-12] or [1.0]
    low, high = min(known), max(known)
    reach = max(0.15, 0.08 * math.log10(high / low))
    axes.set_xscale("log")
    axes.set_xlim(low / 10**reach, high * 10**reach)
    style.plain_log_axis(axes.xaxis)
    return low / 10**reach
