"""Figures of experiments/datapath_error.py: errors of conversions, and what accumulators hold."""

import math
from typing import TYPE_CHECKING, Any

from rung import extras
from rung.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = {"lut": "table of all", "mitchell": "1 + x alone", "hybrid": "table and 1 + x"}


def draw_conversions(result: dict[str, Any]) -> "Figure":
    """Error of a conversion over its table's size, and over the remainder.

    Args:
        result: datapath-error.json.
    """
    figure = style.new_figure(9.6, 3.9)
    worst, products, teeth = figure.subplots(1, 3)
    _draw_sizes(worst, result["conversions"])
    _draw_products(products, result["products"])
    _draw_remainders(teeth, result["remainders"])
    return figure


def draw_sums(result: dict[str, Any]) -> "Figure":
    """Bits that bins take, overflow and SQNR over accumulator width, SQNR over length.

    Args:
        result: datapath-error.json.
    """
    figure = style.new_figure(9.6, 7.0)
    panels = figure.subplots(2, 2)
    _draw_bits(panels[0][0], result["bins"])
    _draw_widths(panels[0][1], panels[1][0], result)
    _draw_lengths(panels[1][1], result["lengths"])
    return figure


def _draw_sizes(axes: "Axes", rows: list[dict[str, Any]]) -> None:
    """A colour for each number of fraction bits; worst in full, mean in dashes."""
    line = extras.require("matplotlib.lines").Line2D
    gamma = rows[0]["base_factor"]
    entries = []
    for colour, bits in zip(
        style.SERIES, sorted({row["fraction_bits"] for row in rows}), strict=False
    ):
        own = [row for row in rows if row["fraction_bits"] == bits]
        sizes = [row["table_size"] for row in own]
        for key, dashes in (("worst", "-"), ("mean", (0, (4, 2)))):
            axes.plot(sizes, [100 * row[key] for row in own], color=colour, linestyle=dashes,
                      marker="o", markersize=3)  # fmt: skip
        entries.append(line([], [], color=colour, label=f"{bits} fraction bits"))
    entries += [
        line([], [], color=style.INK, label="worst"),
        line([], [], color=style.INK, linestyle=(0, (4, 2)), label="mean"),
    ]
    axes.legend(handles=entries, loc="lower left", fontsize=7.5)
    axes.set_xscale("log", base=2)
    _table_ticks(axes, sorted({row["table_size"] for row in rows}), gamma)
    axes.set_yscale("log")
    axes.set_ylim(top=12)
    style.plain_log_axis(axes.yaxis)
    axes.set_ylabel("relative error, %")
    axes.set_title(f"Conversions, base factor {gamma}")


def _table_ticks(axes: "Axes", sizes: list[int], gamma: int) -> None:
    names = {1: "1\nMitchell", gamma: f"{gamma}\nLUT"}
    axes.set_xticks(sizes, [names.get(size, str(size)) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("constants in the table")


def _draw_products(axes: "Axes", rows: list[dict[str, Any]]) -> None:
    """Mean error over all pairs of codes, over dropped bits."""
    for colour, size in zip(
        style.SERIES, sorted({row["table_size"] for row in rows}), strict=False
    ):
        own = [row for row in rows if row["table_size"] == size]
        label = "1 constant" if size == 1 else f"{size} constants"
        axes.plot(
            [row["dropped_bits"] for row in own],
            [100 * row["mean_relative"] for row in own],
            color=colour, marker="o", markersize=3, label=label,
        )  # fmt: skip
    axes.set_yscale("log")
    style.plain_log_axis(axes.yaxis)
    axes.set_xlabel("dropped bits, from the smallest product on")
    axes.set_ylabel("mean relative error, %")
    axes.set_title(f"Products, all pairs of {rows[0]['bits']}-bit codes")
    axes.legend(loc="lower right", fontsize=7.5)


def _draw_remainders(axes: "Axes", rows: list[dict[str, Any]]) -> None:
    """Signed error over an octave."""
    for colour, row in zip(style.SERIES, rows, strict=False):
        errors = [100 * error for error in row["errors"]]
        places = [index / len(errors) for index in range(len(errors))]
        size = row["table_size"]
        label = {1: "1 (Mitchell)", len(errors): f"{size} (LUT)"}.get(size, str(size))
        axes.plot(places, errors, color=colour, label=label, linewidth=1.2)
    axes.set_xlabel("remainder, r / base factor")
    axes.set_ylabel("relative error, %")
    axes.set_ylim(top=9.0)
    axes.set_title(f"One octave, base factor {len(rows[0]['errors'])}")
    axes.legend(title="constants", title_fontsize=7.5, fontsize=7.5, loc="upper right", ncols=3)


def _draw_bits(axes: "Axes", rows: list[dict[str, Any]]) -> None:
    """Histograms of bits by length."""
    drawn = []
    for colour, row in zip(style.SERIES, rows, strict=False):
        total = sum(row["bins"])
        shares = [100 * count / total for count in row["bins"]]
        edges = [width - 0.5 for width in range(len(shares) + 1)]
        axes.stairs(shares, edges, color=colour, fill=True, alpha=0.25, linewidth=0)
        axes.stairs(shares, edges, color=colour, label=f"{row['length']} products")
        drawn += [width for width, share in enumerate(shares) if share > 0.1]
    axes.set_xlim(min(drawn) - 1, max(drawn) + 1)
    axes.set_xlabel("bits that a bin takes, no bits dropped")
    axes.set_ylabel("share of bins, %")
    axes.set_title("What bins hold, normal numbers")
    axes.legend(loc="upper left")


def _draw_widths(upper: "Axes", lower: "Axes", result: dict[str, Any]) -> None:
    """Share of outputs that overflow, and SQNR, over the width; a colour for the dropped bits."""
    rows = result["widths"]
    for colour, dropped in zip(
        style.SERIES, sorted({row["dropped_bits"] for row in rows}), strict=False
    ):
        own = [row for row in rows if row["dropped_bits"] == dropped]
        saturate = [row for row in own if row["overflow"] == "saturate"]
        widths = [row["accumulator_bits"] for row in saturate]
        shares = [100 * row["outputs"] for row in saturate]
        upper.plot(widths, shares, color=colour, marker="o", markersize=3)
        place = next(w for w, share in zip(widths, shares, strict=True) if share < 50)
        # On the left of its curve; of one that begins low, above.
        at = (place - 1.2, 42) if place > widths[0] else (place + 0.2, 9)
        upper.annotate(str(dropped), at, color=colour, ha="center", weight="bold")
        for overflow, dashes in (("saturate", "-"), ("wrap", (0, (1, 1.5)))):
            ratios = [_number(row["datapath_db"]) for row in own if row["overflow"] == overflow]
            lower.plot(widths, ratios, color=colour, linestyle=dashes, marker="o", markersize=2.5)
    every = [row["accumulator_bits"] for row in rows]
    _format_line(lower, rows[0]["format_db"])
    for axes in (upper, lower):
        axes.set_xlabel("accumulator bits")
        axes.set_xticks(range(min(every), max(every) + 1, 2))
    upper.set_ylabel("outputs that overflow, %")
    upper.set_title(f"Overflow, {rows[0]['length']} products (numbers: dropped bits)")
    lower.set_ylabel("SQNR of the datapath, dB")
    lower.set_title("The same: error (dotted: wraps instead of saturating)")


def _format_line(axes: "Axes", level: float) -> None:
    axes.axhline(level, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 2)))
    axes.annotate(
        "the format's own", (1.0, level), (0, 3), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", fontsize=7.5, color=style.MUTED,
    )  # fmt: skip


def _draw_lengths(axes: "Axes", rows: list[dict[str, Any]]) -> None:
    """SQNR of the datapath over length, by conversion."""
    designs = list(dict.fromkeys((row["conversion"], row["table_size"]) for row in rows))
    for colour, (conversion, size) in zip(style.SERIES, designs, strict=False):
        own = [row for row in rows if (row["conversion"], row["table_size"]) == (conversion, size)]
        label = f"{_NAMES[conversion]} ({size})"
        lengths = [row["length"] for row in own]
        ratios = [_number(row["datapath_db"]) for row in own]
        axes.plot(lengths, ratios, color=colour, marker="o", markersize=3, label=label)
        # Dots of one product, of the largest codes, all have the same error: it would be a gain.
        ratios = [_number(row["corrected_db"]) for row in own[1:]]
        axes.plot(lengths[1:], ratios, color=colour, linestyle=(0, (1, 1.5)))
    own = [row for row in rows if (row["conversion"], row["table_size"]) == designs[0]]
    _format_line(axes, own[-1]["format_db"])
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 16, 256, 4096], ["1", "16", "256", "4096"])
    axes.minorticks_off()
    axes.set_xlabel("products of a dot")
    axes.set_ylabel("SQNR of the datapath, dB")
    axes.set_title("Conversions (dotted: the mean gain taken out)")
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 0.88), fontsize=7.5)


def _number(value: float | None) -> float:
    """None stands for no error at all: nothing to draw."""
    return math.nan if value is None else value
