"""Draw the docs' figures: the same bytes whenever the same matplotlib draws the same numbers.

    python docs/figures.py
    python docs/figures.py --medians RUN     take the histograms of an LMD run's folder first

Writes docs/figures/*.svg: the number system from the formats themselves, the rounding of one step
from experiments/results/quantization-error.json, those of the datapath from datapath-error.json,
those of LMD from tune-*.json and lmd-medians.json beside it, those of `rung reproduce` from
experiments/results/reproduce/.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datapath_figure
import lmd_figures
import reproduce_tables
import torch
from result_files import ROOT, exists, load
from torch import Tensor

from rung.formats import LNS, get
from rung.report import datapath
from rung.report.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    VERMILLION,
    new_figure,
    plain_log_axis,
    style,
)

FIGURES = ROOT / "docs" / "figures"
Round = Callable[[Tensor], Tensor]


def main() -> None:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--medians", type=Path, metavar="RUN")
    run = parser.parse_args().medians
    if run is not None:
        lmd_figures.keep_medians(run)
    FIGURES.mkdir(exist_ok=True)
    drawings = {
        "number-systems": number_systems,
        "quantization-error": quantization_error,
        "datapath": datapath_figure.element,
    }
    for name, needed, draw in (
        ("lmd-rates", "tune-vit-short", lmd_figures.rates),
        ("lmd-medians", "lmd-medians", lmd_figures.medians_figure),
        ("datapath-error", "datapath-error", lambda: datapath.draw_conversions(measured())),
        ("datapath-sums", "datapath-error", lambda: datapath.draw_sums(measured())),
    ):
        if exists(needed):
            drawings[name] = draw
    drawings |= reproduce_tables.figures()
    for name, draw in drawings.items():
        with style():
            target = FIGURES / f"{name}.svg"
            draw().savefig(target, format="svg", metadata={"Date": None})
            print(f"wrote {target.relative_to(ROOT)}")


def measured() -> dict[str, Any]:
    """What experiments/datapath_error.py has written."""
    return load("datapath-error")


# -- the number system beside bfloat16 and FP8 -------------------------------------------------


def lns(name: str) -> Round:
    """Rounding to an LNS with 1 as its largest code."""
    return lambda x: get(name).quantize(x, scale=1.0)


def narrow(dtype: torch.dtype) -> Round:
    """Rounding to a float dtype, whose largest number stands at 1 as a scale would put it."""
    largest = 1.0 if dtype == torch.bfloat16 else torch.finfo(dtype).max
    return lambda x: (x * largest).to(dtype).to(x.dtype) / largest


SYSTEMS: dict[str, tuple[str, Round]] = {
    "LNS8, base factor 8": (BLUE, lns("lns8")),
    "LNS8, base factor 4": (PURPLE, lns("lns8_b4")),
    "FP8 e4m3": (ORANGE, narrow(torch.float8_e4m3fn)),
    "FP8 e5m2": (VERMILLION, narrow(torch.float8_e5m2)),
    "bfloat16": (GREEN, narrow(torch.bfloat16)),
}


def values(round_to: Round) -> Tensor:
    """Every positive value up to 1 of a system with few of them, ascending."""
    dense = torch.logspace(-24, 0, 400_001, base=2, dtype=torch.float32)
    found = round_to(dense).unique()
    return found[found > 0]


def number_systems() -> Any:
    """Values on a linear and a logarithmic line, and the relative error over magnitude."""
    figure = new_figure(8.2, 8.0)
    axes = figure.subplot_mosaic(
        [["line", "line"], ["log", "log"], ["near", "far"]], height_ratios=[1, 1, 1.7]
    )
    draw_values(axes["line"], "Values from 0 to the largest, linear", False)
    draw_values(axes["log"], "The same, logarithmic", True)
    draw_teeth(axes["near"])
    draw_envelope(axes["far"])
    handles, labels = axes["far"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure


def draw_values(axes: Any, title: str, logarithmic: bool) -> None:
    """One row of strokes a system, a stroke a value."""
    names = list(reversed(SYSTEMS))
    for row, name in enumerate(names):
        color, round_to = SYSTEMS[name]
        found = values(round_to)
        found = found[found >= 2.0**-20] if logarithmic else found
        places = torch.log2(found) if logarithmic else found
        if name == "bfloat16":  # 128 values an octave: strokes would be a bar
            low = -20.0 if logarithmic else 0.0
            axes.plot([low, 1.0 - logarithmic], [row, row], color=color, linewidth=12, alpha=0.35,
                      solid_capstyle="butt")  # fmt: skip
            middle = (low + 1.0 - logarithmic) / 2
            axes.text(middle, row, "128 values in every octave", ha="center", va="center",
                      fontsize=8, color=INK)  # fmt: skip
        else:
            axes.vlines(places.tolist(), row - 0.3, row + 0.3, color=color, linewidth=0.7)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_title(title)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if logarithmic:
        axes.set_xlim(-20.2, 0.2)
        axes.set_xticks(range(-20, 1, 4), [octave(n) for n in range(-20, 1, 4)])
    else:
        axes.set_xlim(-0.01, 1.01)


def octave(exponent: int) -> str:
    """``2⁻⁴``."""
    if exponent == 0:
        return "1"
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return "2" + str(exponent).translate(digits)


def relative_error(round_to: Round, x: Tensor) -> Tensor:
    """|q(x) - x| / x."""
    return (round_to(x) - x).abs() / x


def draw_teeth(axes: Any) -> None:
    """Error at every magnitude, over two octaves; of the two base factors the finer."""
    x = torch.logspace(-4, -2, 1601, base=2, dtype=torch.float32)
    for name, (color, round_to) in SYSTEMS.items():
        if name.endswith("factor 4"):
            continue
        error = 100 * relative_error(round_to, x)
        width = 0.5 if name == "bfloat16" else 1.1
        axes.plot(torch.log2(x).tolist(), error.tolist(), color=color, linewidth=width)
    axes.set_title("Relative error, two octaves")
    axes.set_xticks([-4, -3, -2], [octave(n) for n in (-4, -3, -2)])
    axes.set_xlabel("magnitude / largest")
    axes.set_ylabel("|q(x) − x| / |x|, %")
    axes.set_ylim(0, 13)


def draw_envelope(axes: Any) -> None:
    """Largest error in every quarter octave, over the whole range."""
    per_octave, inside = 4, 512
    first = -22 * per_octave
    steps = (torch.arange(-first * inside) + 0.5) / inside + first
    x = (steps / per_octave).exp2().float()
    centres = (torch.arange(-first) + 0.5 + first) / per_octave
    for name, (color, round_to) in SYSTEMS.items():
        worst = 100 * relative_error(round_to, x).reshape(-1, inside).amax(1)
        axes.plot(centres.tolist(), worst.tolist(), color=color, label=name)
    fmt = get("lns8")
    assert isinstance(fmt, LNS)
    axes.axhline(100 * fmt.max_relative_error, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set_title("Worst relative error, whole range")
    axes.set_xticks(range(-20, 1, 4), [octave(n) for n in range(-20, 1, 4)])
    axes.set_xlim(-22, 0)
    axes.set_xlabel("magnitude / largest")
    axes.set_yscale("log")
    axes.set_ylim(0.2, 150)
    axes.set_yticks([0.5, 1, 5, 10, 50, 100], ["0.5", "1", "5", "10", "50", "100 %"])
    axes.minorticks_off()


# -- the rounding of one step ------------------------------------------------------------------

COLORS = (BLUE, ORANGE, VERMILLION)
PANELS = (
    ("lns", "lr", (2**-10, 2**-7, 2**-4), 12, "LNS, 12 bits (base factor 128)"),
    ("lns", "bits", (16, 12, 10), 2**-7, "LNS, lr 2⁻⁷"),
    ("fixed-point", "bits", (16, 12, 10), 2**-7, "Fixed point, lr 2⁻⁷"),
)


def quantization_error() -> Any:
    """Both measures over |W|: lr and bits on an LNS, bits on a fixed-point grid."""
    result = json.loads((ROOT / "experiments/results/quantization-error.json").read_text())
    figure = new_figure(9.6, 6.4)
    grid = figure.subplots(2, 3, sharex=True, sharey="row")
    for column, (name, vary, choices, fixed, title) in enumerate(PANELS):
        upper, lower = grid[0][column], grid[1][column]
        for color, choice in zip(COLORS, choices, strict=True):
            keys = {"grid": name, vary: choice, "bits" if vary == "lr" else "lr": fixed}
            draw_rules(upper, lower, result, keys, color)
        upper.set_title(title)
        upper.set_yscale("log")
        upper.set_ylim(1.1e-5, 0.3)
        plain_log_axis(upper.yaxis)
        lower.set_xlabel("|W|")
        lower.set_xticks(range(-12, 1, 3), [octave(n) for n in range(-12, 1, 3)])
        add_legend(upper, vary, choices)
    grid[0][0].set_ylabel("error, octaves")
    grid[1][0].set_ylabel("share of the step lost")
    grid[1][0].set_ylim(-0.03, 1.05)
    return figure


def draw_rules(
    upper: Any, lower: Any, result: dict[str, Any], keys: dict[str, Any], color: str
) -> None:
    """Two lines in each panel: the multiplicative rule whole, the additive one in dashes."""
    for rule, dashes in (("multiplicative", "-"), ("additive", (0, (4, 2)))):
        wanted = {**keys, "rule": rule}
        row = next(row for row in result["rows"] if wanted.items() <= row.items())
        for axes, measure in ((upper, "error"), (lower, "share")):
            points = [math.nan if value is None else value for value in row[measure]]
            axes.plot(result["log2_weight"], points, color=color, linestyle=dashes)


def add_legend(axes: Any, vary: str, choices: tuple[float, ...]) -> None:
    """Colours, and once for all the two dashes."""
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], color=color, label=f"{choice} bits" if vary == "bits" else lr_name(choice))
        for color, choice in zip(COLORS, choices, strict=True)
    ]
    entries += [
        Line2D([], [], color=INK, label="multiplicative"),
        Line2D([], [], color=INK, linestyle=(0, (4, 2)), label="additive"),
    ]
    axes.legend(handles=entries, loc="lower left", fontsize=7.5, ncols=2, columnspacing=1.0)


def lr_name(lr: float) -> str:
    """``lr 2⁻⁷``."""
    return f"lr {octave(round(math.log2(lr)))}"


if __name__ == "__main__":
    main()
