"""Figure: the final metric over bits, or over the learning rate, with a line an optimizer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rung.report import numbers, style
from rung.report.sweep_data import Setting, Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLOAT_BITS = 32
_MARKERS = "osD^vPph"
_MOST_RATES = 7
_NEAR = 0.1
"""A second panel shows what lies within this share of the range from the best, if most does."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where settings stand from left to right."""

    name: str
    """``"bits"``, ``"lr"`` or ``"optimizer"``."""
    label: str
    place: Callable[[Setting, int], float]
    """Position of a setting, given the number of its optimizer among them."""


def x_name(sweep: Sweep) -> str:
    """What the figure has from left to right: bits if they vary, else lr if it does."""
    return next((name for name in ("bits", "lr") if sweep.varies(name)), "optimizer")


def draw(sweep: Sweep) -> "Figure":
    """Mean and range over the seeds of every optimizer.

    Where bits and learning rates vary, each point is the learning rate with the best mean.
    """
    axis = _axis(sweep)
    lines = {name: _line(sweep, name, axis) for name in sweep.optimizers}
    factor = 100.0 if _is_fraction(sweep) else 1.0
    zoom = _zoom(sweep, [s for line in lines.values() for s in line], factor)
    figure = style.new_figure(9 if zoom else 7, 4.2)
    panels = figure.subplots(1, 2 if zoom else 1, squeeze=False)[0]
    for axes in panels:
        for index, line in enumerate(lines.values()):
            _draw_line(axes, line, index, axis, factor)
        _dress_x(axes, sweep, axis)
    _dress_y(panels[0], sweep)
    if zoom:
        panels[0].set_title("All settings")
        panels[1].set_title("Those near the best")
        panels[1].set_ylim(*zoom)
    for axes in panels:
        _mark_diverged(axes, sweep, lines, axis)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
    return figure


def _axis(sweep: Sweep) -> _Axis:
    middle = (len(sweep.optimizers) - 1) / 2
    name = x_name(sweep)
    if name == "bits":
        # Float weights stand apart, not at 32: the axis is about the few bits.
        few = [s.bits for s in sweep.settings if s.bits is not None and s.bits != _FLOAT_BITS]
        gap = max(1.5, (max(few) - min(few)) / 4) if few else 1.0
        beyond = max(few) + gap if few else 0.0

        def by_bits(setting: Setting, index: int) -> float:
            bits = beyond if setting.bits in (None, _FLOAT_BITS) else float(setting.bits or 0)
            return bits + 0.09 * (index - middle)

        return _Axis(name, "bits of a weight after its update", by_bits)
    if name == "lr":
        return _Axis(
            name, "learning rate", lambda s, index: (s.lr or 0.0) * 1.03 ** (index - middle)
        )
    return _Axis(name, "", lambda setting, index: float(index))


def _line(sweep: Sweep, optimizer: str, axis: _Axis) -> list[Setting]:
    """One setting for each place on the axis: of several learning rates the best."""
    places: dict[float, list[Setting]] = {}
    for setting in sweep.settings:
        if setting.optimizer == optimizer:
            places.setdefault(axis.place(setting, 0), []).append(setting)
    return [sweep.best(same) or same[0] for _, same in sorted(places.items())]


def _draw_line(
    axes: "Axes", line: Sequence[Setting], index: int, axis: _Axis, factor: float
) -> None:
    colour = style.SERIES[index % len(style.SERIES)]
    marker = _MARKERS[index % len(_MARKERS)]
    shown = [(axis.place(s, index), s, s.mean) for s in line]
    known = [(x, setting, factor * mean) for x, setting, mean in shown if mean is not None]
    if known:
        lows = [y - factor * min(setting.finals) for _, setting, y in known]
        highs = [factor * max(setting.finals) - y for _, setting, y in known]
        # Rounding errors of a mean may lie outside of what it is the mean of.
        spread = [[max(0.0, value) for value in side] for side in (lows, highs)]
        places, heights = [x for x, _, _ in known], [y for _, _, y in known]
        axes.errorbar(
            places, heights, yerr=spread, fmt="none", ecolor=colour, elinewidth=1.1, capsize=2.5
        )
        axes.plot(places, heights, marker, color=colour, markersize=5.5, zorder=3)
    for left, right in zip(shown, shown[1:], strict=False):
        if left[2] is not None and right[2] is not None:
            # Between bits and float32 there is no scale that a line could follow.
            jump = axis.name == "bits" and right[1].bits == _FLOAT_BITS
            axes.plot(
                [left[0], right[0]],
                [factor * left[2], factor * right[2]],
                color=colour,
                linestyle=(0, (1, 1.8)) if jump else "-",
            )
    axes.plot([], [], color=colour, marker=marker, markersize=5.5, label=line[0].optimizer)


def _dress_x(axes: "Axes", sweep: Sweep, axis: _Axis) -> None:
    axes.set_xlabel(axis.label)
    if axis.name == "lr":
        axes.set_xscale("log")
        lrs = sorted({setting.lr for setting in sweep.settings if setting.lr is not None})
        axes.set_xlim(lrs[0] / 1.35, lrs[-1] * 1.35)
        style.plain_log_axis(axes.xaxis)
        if len(lrs) <= _MOST_RATES:
            axes.set_xticks(lrs, [numbers.rate(lr) for lr in lrs])
            axes.tick_params(axis="x", which="minor", length=0)
        return
    if axis.name == "bits":
        middle = (len(sweep.optimizers) - 1) / 2
        ticks = {s.bits: axis.place(s, 0) + 0.09 * middle for s in sweep.settings}
        names = ["float32" if bits == _FLOAT_BITS else str(bits) for bits in ticks]
        axes.set_xticks(list(ticks.values()), names)
        places = list(ticks.values())
        axes.set_xlim(min(places) - 0.6, max(places) + 0.6)
        return
    axes.set_xticks(range(len(sweep.optimizers)), sweep.optimizers)
    axes.set_xlim(-0.6, len(sweep.optimizers) - 0.4)


def _dress_y(axes: "Axes", sweep: Sweep) -> None:
    metric = sweep.metric
    if metric is not None:
        better = "higher" if metric.higher_is_better else "lower"
        unit = " (%)" if _is_fraction(sweep) else ""
        axes.set_ylabel(f"{metric.title}{unit}, {better} is better")
    if _is_log(sweep):
        axes.set_yscale("log")
        style.plain_log_axis(axes.yaxis)
    if not _finals(sweep):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no run has finished", transform=axes.transAxes, ha="center")


def _mark_diverged(
    axes: "Axes", sweep: Sweep, lines: dict[str, list[Setting]], axis: _Axis
) -> None:
    """A cross at the worse edge for each setting with runs that diverged."""
    lower_is_worse = sweep.metric is None or sweep.metric.higher_is_better
    marked = False
    for index, line in enumerate(lines.values()):
        colour = style.SERIES[index % len(style.SERIES)]
        for setting in line:
            diverged = setting.count("diverged")
            if not diverged:
                continue
            place = (axis.place(setting, index), 0.0 if lower_is_worse else 1.0)
            axes.plot(
                *place,
                "X",
                color=colour,
                markeredgecolor=style.PAPER,
                markersize=9,
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                zorder=4,
            )
            marked = True
            if diverged < len(setting.cells):
                axes.annotate(
                    f"{diverged} of {len(setting.cells)}",
                    place,
                    xycoords=axes.get_xaxis_transform(),
                    xytext=(6, 5 if lower_is_worse else -10),
                    textcoords="offset points",
                    fontsize=7,
                    color=colour,
                )
    if marked:
        axes.plot([], [], "X", color=style.MUTED, markersize=8, linestyle="", label="diverged")


def _finals(sweep: Sweep) -> list[float]:
    return [value for setting in sweep.settings for value in setting.finals]


def _is_fraction(sweep: Sweep) -> bool:
    named = sweep.metric is not None and numbers.is_fraction(sweep.metric.name)
    return named and max(_finals(sweep), default=0.0) <= 1


def _is_log(sweep: Sweep) -> bool:
    """Whether values such as perplexities span so much that the y axis is logarithmic."""
    finals = _finals(sweep)
    if _is_fraction(sweep) or not finals:
        return False
    return min(finals) > 0 and max(finals) > 8 * min(finals)


def _zoom(sweep: Sweep, shown: Sequence[Setting], factor: float) -> tuple[float, float] | None:
    """Limits around the means near the best one, where most of them are and the rest hides it."""
    means = [s.mean for s in shown if s.mean is not None]
    scale = math.log if _is_log(sweep) else float
    places = [scale(mean) for mean in means]
    if not places or min(places) == max(places):
        return None
    higher = sweep.metric is None or sweep.metric.higher_is_better
    best = max(places) if higher else min(places)
    reach = _NEAR * (max(places) - min(places))
    near = [mean for mean, place in zip(means, places, strict=True) if abs(place - best) <= reach]
    if not len(places) / 2 < len(near) < len(places):
        return None
    values = [factor * final for s in shown if s.mean in near for final in s.finals]
    margin = max(0.08 * (max(values) - min(values)), 1e-3 * abs(max(values)))
    return min(values) - margin, max(values) + margin
