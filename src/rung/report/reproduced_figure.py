"""Figures of `rung reproduce`."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from rung.report import style
from rung.report.reproduced_data import (
    best_rate,
    bytes_of,
    error_by_rate,
    finals,
    runs_of,
    shown,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]

_FLOAT_PLACE = 18.0
_COLUMNS = 2
_MARKERS = "os^D"


def draw(record: Record) -> "Figure | None":
    """The figure of a results file; None where nothing was measured, and of energies."""
    makers = {
        "table": _dots, "rates": _rates, "lines": _lines, "arena": _arena, "variants": _variants,
    }  # fmt: skip
    rows = shown(record)
    if record["kind"] not in makers or not rows:
        return None
    figure, panels = _panels(record["kind"], rows)
    for panel, row in zip(panels, rows, strict=False):
        panel.set_title(row["title"])
        makers[record["kind"]](panel, row, record)
    for panel in panels[len(rows) :]:
        panel.set_visible(False)
    handles = _handles(panels[: len(rows)], record)
    wide = 3 if record["kind"] == "arena" else 5  # an arena's legend is long
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center",
            ncols=min(wide, len(handles)),
        )  # fmt: skip
    return figure


def _panels(kind: str, rows: Sequence[Record]) -> tuple["Figure", Sequence["Axes"]]:
    """An empty figure, and a panel a row in it."""
    listed = kind in ("table", "variants")
    # The labels of a list's contestants take the room of a second column.
    columns = 1 if listed else _COLUMNS if kind == "arena" else min(_COLUMNS, len(rows))
    lines = -(-len(rows) // columns)
    heights = [3.0] * lines
    if kind == "table":
        most = max(len(row["contestants"]) for row in rows)
        heights = [max(3.0, 0.26 * most)] * lines
    elif kind == "variants":  # of which one task may have many and another few
        heights = [max(2.0, 0.2 * len(_measured(row)) + 0.8) for row in rows]
    figure = style.new_figure(7.0 if listed else 4.4 * columns, sum(heights) + 0.4)
    panels = figure.subplots(lines, columns, squeeze=False, height_ratios=heights)
    return figure, list(panels.ravel())


def _measured(row: Record) -> list[str]:
    """Labels of the contestants that have results on a task."""
    return [c["label"] for c in row["contestants"] if finals(row, c["label"])]


def _order(record: Record) -> dict[str, int]:
    """A number for every contestant, the same on all tasks, which may not have them all."""
    labels = (c["label"] for row in shown(record) for c in row["contestants"])
    return {label: place for place, label in enumerate(dict.fromkeys(labels))}


def _handles(panels: Sequence["Axes"], record: Record) -> dict[str, Any]:
    """What a legend says of all panels, in the order of the contestants."""
    found: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        found = dict(zip(labels, handles, strict=True)) | found
    order = _order(record)
    return {label: found[label] for label in sorted(found, key=lambda x: order.get(x, 0))}


def _dots(axes: "Axes", row: Record, record: Record) -> None:
    """A row a contestant: every seed a dot, their mean a line."""
    labels = [c["label"] for c in row["contestants"]]
    for place, label in enumerate(labels):
        values = finals(row, label)
        color = style.SERIES[place % len(style.SERIES)]
        axes.plot(values, [place] * len(values), "o", color=color, markersize=4, alpha=0.7)
        if values:
            axes.plot(mean(values), place, "|", color=color, markersize=16, markeredgewidth=2)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(row["unit"])


def _arena(axes: "Axes", row: Record, record: Record) -> None:
    """How far above the first contestant, by bytes a weight; every seed a dot, the mean a ring."""
    order, base = _order(record), row["contestants"][0]["label"]
    first = finals(row, base)
    if not first:
        return
    for label in _measured(row):
        values = [100 * (value / mean(first) - 1) for value in finals(row, label)]
        place = order[label]
        size = bytes_of(runs_of(row, label)[0])
        color = style.SERIES[place % len(style.SERIES)]
        marker = _MARKERS[place // len(style.SERIES) % len(_MARKERS)]
        axes.plot([size] * len(values), values, marker, color=color, markersize=3, alpha=0.5)
        axes.plot(size, mean(values), marker, color=color, markersize=8, label=label,
                  markerfacecolor="none")  # fmt: skip
    axes.axhline(0.0, color=style.MUTED, linewidth=0.8)
    axes.set_xscale("log")
    style.plain_log_axis(axes.xaxis)
    axes.set_xlabel("bytes a weight, weights and state")
    axes.set_ylabel(f"loss against {base}, %")


def _variants(axes: "Axes", row: Record, record: Record) -> None:
    """A row a variant: every seed a dot, their mean a line; the first one's mean all the way."""
    labels = _measured(row)
    first = finals(row, row["contestants"][0]["label"])
    if first:
        axes.axvline(mean(first), color=style.MUTED, linewidth=0.8)
    for place, label in enumerate(labels):
        values = finals(row, label)
        axes.plot(values, [place] * len(values), "o", color=style.BLUE, markersize=3, alpha=0.5)
        axes.plot(mean(values), place, "|", color=style.INK, markersize=9, markeredgewidth=2)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(row["unit"])


def _rates(axes: "Axes", row: Record, record: Record) -> None:
    """Best error over error, by learning rate; a cross marks the best."""
    for index, contestant in enumerate(row["contestants"]):
        errors = error_by_rate(row, contestant["label"])
        best = best_rate(errors) if errors else None
        if best is None:
            continue
        shares = [errors[best] / e if math.isfinite(e) and e > 0 else 0.0 for e in errors.values()]
        color = style.SERIES[index % len(style.SERIES)]
        axes.plot(list(errors), shares, "o-", color=color, markersize=3, label=contestant["label"])
        axes.plot(best, 1.0, "x", color=color, markersize=9, markeredgewidth=2)
    axes.set_xscale("log")
    style.plain_log_axis(axes.xaxis)
    axes.set_ylim(-0.03, 1.06)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("best error / error")


def _lines(axes: "Axes", row: Record, record: Record) -> None:
    """Mean and range over the seeds: groups of contestants over their places."""
    groups: dict[str, list[Record]] = {}
    for contestant in row["contestants"]:
        groups.setdefault(contestant["group"], []).append(contestant)
    for index, (group, members) in enumerate(groups.items()):
        points = [(c["place"], finals(row, c["label"])) for c in members]
        points = sorted((place, values) for place, values in points if values)
        if not points:
            continue
        middle = [mean(values) for _, values in points]
        errors = (
            [m - min(v) for m, (_, v) in zip(middle, points, strict=True)],
            [max(v) - m for m, (_, v) in zip(middle, points, strict=True)],
        )
        color = style.SERIES[index % len(style.SERIES)]
        axes.errorbar(
            [place for place, _ in points], middle, errors, color=color, marker="o", markersize=4,
            capsize=2, label=group,
        )  # fmt: skip
    axes.set_xlabel(record["across"])
    axes.set_ylabel(row["unit"])
    _places(axes, row)


def _places(axes: "Axes", row: Record) -> None:
    """The places as they are; float32 stands for whatever is beyond the others."""
    places = sorted({contestant["place"] for contestant in row["contestants"]})
    words = [f"{place:g}" for place in places]
    if len(places) > 1:
        words[-1] = "float32"
    axes.set_xticks(places, words)
    if places[-1] > 2 * places[0] + 8:
        axes.set_xscale("log")
        axes.set_xticks(places, words)
        axes.minorticks_off()
