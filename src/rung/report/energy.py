"""Energies by format, as text and as a figure, from the JSON that `rung energy` writes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rung.report import numbers, style
from rung.report.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]

_UNITS = ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"), (1e-12, "pJ"))
_LAYERS_IN_TABLE = 16
_LAYERS_IN_FIGURE = 7
_FIELDS = {
    "passes": "by pass",
    "parts": "by part",
    "layers": "by layer",
    "datapath parts": "in the datapath",
}
_TOTALS = {"datapath parts": "datapath"}


def read_energy(path: Path) -> dict[str, Any]:
    """What `rung energy --out` wrote.

    Raises:
        ValueError: The file is missing or isn't one of these.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} must be a file that `rung energy --out` wrote; got: {error}."
        ) from error
    if not isinstance(record, dict) or "steps" not in record or "what" not in record:
        raise ValueError(
            f"{path} must be a file that `rung energy --out` wrote; got other JSON. Run `rung "
            f"energy MODEL --out {path}`."
        )
    return record


def energy_table(record: Record) -> str:
    """Plain-text tables: totals with their band, passes, parts and layers by format.

    Args:
        record: What `rung energy` writes.

    Returns:
        Lines without a final newline.
    """
    lines = [f"{record['model']}: {numbers.compact(record['parameters'])} parameters"]
    for phase, counts in record["counts"].items():
        moved = sum(counts[kind] for kind in ("weights", "activations", "gradients"))
        lines.append(
            f"{phase}: {numbers.compact(counts['macs'])} multiply-accumulates, "
            f"{numbers.compact(moved)} numbers moved"
        )
    for step, found in record["steps"].items():
        lines += ["", *_totals(step, found, record["saving"][step])]
        for field in _FIELDS:
            lines += ["", *_columns(step, found, field)]
    if record["uncounted"]:
        lines += ["", "not counted, though they may multiply:", *record["uncounted"]]
    return "\n".join([*lines, "", *_notes(record)])


def energy_figure(record: Record) -> "Figure":
    """Stacked bars by format: passes, parts, layers and datapath of each step, and their bands."""
    panels = [(step, field) for step in record["steps"] for field in _FIELDS]
    panels.remove(("inference", "passes"))  # there is one
    if len(panels) > 3:  # inference has the layers of the training step, then
        panels.remove(("inference", "layers"))
    figure = style.new_figure(14, 3.9 * len(panels) / 3 + 0.5)
    grid = figure.subplots(len(panels) // 3, 3, squeeze=False)
    for axes, (step, field) in zip(grid.flat, panels, strict=True):
        _bars(axes, record["steps"][step], field)
        axes.set_title(f"{step}, {_FIELDS[field]}".capitalize())
    figure.suptitle(f"{record['model']}: {record['what']}", fontsize=9)
    return figure


def write_energy_figure(record: Record, path: Path) -> Path:
    """Draw `energy_figure` as PNG; the folder must exist."""
    with style.style():
        write_atomically(path, style.to_png(energy_figure(record)))
    return path


def _totals(step: str, found: Record, savings: Record) -> list[str]:
    factor, unit = _unit([result["total"][2] for result in found.values()])
    against = next((saving["against"] for saving in savings.values()), "")
    names = [f"{step}, {unit}", "total", "low", "high", "datapath"]
    if savings:
        names += [f"saves against {against}: datapath", "low", "high", "in all"]
    rows = [names]
    for name, result in found.items():
        cells = [_figure(value / factor) for value in (*result["total"], result["datapath"][0])]
        if name in savings:
            shares = (*savings[name]["datapath"], savings[name]["total"][0])
            cells += [numbers.percent(share) for share in shares]
        rows.append([name, *cells])
    return _aligned(rows)


def _columns(step: str, found: Record, field: str) -> list[str]:
    """Keys down, formats across."""
    factor, unit = _unit([result[_TOTALS.get(field, "total")][0] for result in found.values()])
    keys = _keys(found, field, _LAYERS_IN_TABLE)
    rows = [[f"{step} {_FIELDS[field]}, {unit}", *found]]
    for key in keys:
        values = [_value(result, field, key, keys) for result in found.values()]
        rows.append([key or "(model)", *(_figure(value / factor) for value in values)])
    return _aligned(rows)


_REST = "other layers"


def _keys(found: Record, field: str, most: int) -> list[str]:
    """Keys of any format in their order; of more than `most` the largest, and one for the rest."""
    largest: dict[str, float] = {}
    for result in found.values():
        for key, band in result[field].items():
            largest[key] = max(largest.get(key, 0.0), band[0])
    if len(largest) <= most:
        return list(largest)
    kept = sorted(largest, key=lambda key: -largest[key])[: most - 1]
    return [*(key for key in largest if key in kept), _REST]


def _value(result: Record, field: str, key: str, keys: Sequence[str]) -> float:
    bands = result[field]
    if key == _REST and key not in bands:
        return float(sum(band[0] for name, band in bands.items() if name not in keys))
    return float(bands[key][0]) if key in bands else 0.0


def _bars(axes: "Axes", found: Record, field: str) -> None:
    bands = [result[_TOTALS.get(field, "total")] for result in found.values()]
    factor, unit = _unit([band[2] for band in bands])
    names, keys = list(found), _keys(found, field, _LAYERS_IN_FIGURE)
    below = [0.0] * len(names)
    for index, key in enumerate(keys):
        heights = [_value(result, field, key, keys) / factor for result in found.values()]
        colour = style.SERIES[index % len(style.SERIES)]
        axes.bar(names, heights, bottom=below, color=colour, width=0.7, label=key or "(model)")
        below = [low + height for low, height in zip(below, heights, strict=True)]
    totals = [[value / factor for value in band] for band in bands]
    reach = [[t[0] - t[1] for t in totals], [t[2] - t[0] for t in totals]]
    axes.errorbar(
        names,
        [t[0] for t in totals],
        yerr=reach,
        fmt="none",
        ecolor=style.INK,
        elinewidth=1.0,
        capsize=2.5,
        label="band of the costs",
    )
    axes.set_ylabel(unit)
    axes.tick_params(axis="x", labelrotation=45)
    axes.legend(fontsize=7)


def _notes(record: Record) -> list[str]:
    design = ", ".join(f"{name} {value}" for name, value in record["design"].items())
    return [
        record["what"],
        f"costs: {record['costs']['name']}; low and high: the ends of every row's band.",
        f"design: {design}",
    ]


def _unit(values: Sequence[float]) -> tuple[float, str]:
    """A unit that the largest value has at least 1 of."""
    largest = max(values, default=0.0)
    return next(((factor, unit) for factor, unit in _UNITS if largest >= factor), _UNITS[-1])


def _figure(value: float) -> str:
    return numbers.significant(value, 3) if value else "0"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    count = max(len(row) for row in rows)
    full = [[*row, *[""] * (count - len(row))] for row in rows]
    widths = [max(len(row[column]) for row in full) for column in range(count)]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in full
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
