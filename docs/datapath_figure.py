"""The drawing of docs/datapath.md: a processing element, with one product's bits in it."""

from typing import Any

from matplotlib.patches import FancyBboxPatch

from rung.report.style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, new_figure

BOXES = (
    # x, y, width, height, title, text, colour
    (0.0, 3.3, 1.5, 0.9, "codes a", "s  e = 101 0110", MUTED),
    (0.0, 1.9, 1.5, 0.9, "codes b", "s  e = 100 1011", MUTED),
    (2.1, 2.6, 1.7, 0.9, "exponent adder", "p = 86 + 75 = 161", BLUE),
    (4.4, 3.3, 1.9, 0.9, "upper bits: q = 20", "shift the mantissa", BLUE),
    (4.4, 1.9, 1.9, 0.9, "lower bits: r = 1", "choose bin, mantissa", PURPLE),
    (6.9, 2.6, 1.7, 0.9, "± mantissa · 2^q", "low bits dropped", GREEN),
)
BINS = 8


def element() -> Any:
    """Draw it."""
    figure = new_figure(9.2, 3.6)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-0.1, 13.3)
    axes.set_ylim(0.6, 5.2)
    for x, y, width, height, title, text, colour in BOXES:
        _box(axes, (x, y, width, height), title, text, colour)
    for start, end in (
        ((1.5, 3.75), (2.1, 3.2)), ((1.5, 2.35), (2.1, 2.9)), ((3.8, 3.2), (4.4, 3.75)),
        ((3.8, 2.9), (4.4, 2.35)), ((6.3, 3.75), (6.9, 3.2)), ((6.3, 2.35), (6.9, 2.9)),
        ((8.6, 3.05), (9.1, 3.05)),
    ):  # fmt: skip
        _arrow(axes, start, end)
    _bins(axes)
    _arrow(axes, (11.35, 3.05), (11.75, 3.05))
    _box(axes, (11.75, 2.6, 1.45, 0.9), "sum", "partial sum out", ORANGE)
    axes.text(2.95, 2.35, "sign: s xor s", ha="center", fontsize=7, color=MUTED)
    return figure


def _box(axes: Any, place: tuple[float, ...], title: str, text: str, colour: str) -> None:
    x, y, width, height = place
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0.02", fill=False, edgecolor=colour, lw=1.3
        )
    )
    middle = x + width / 2
    axes.text(middle, y + 0.62 * height, title, ha="center", fontsize=8, color=INK)
    axes.text(middle, y + 0.22 * height, text, ha="center", fontsize=7, color=MUTED)


def _bins(axes: Any) -> None:
    """Accumulators, one for each constant."""
    for index in range(BINS):
        y = 1.3 + 0.44 * index
        own = index == 1
        axes.add_patch(
            FancyBboxPatch(
                (9.1, y), 0.95, 0.3, boxstyle="round,pad=0.01", fill=own, edgecolor=GREEN,
                facecolor="#d5ecdf" if own else "none", lw=1.1,
            )
        )  # fmt: skip
        axes.text(9.575, y + 0.08, f"bin {index}", ha="center", fontsize=6.5, color=INK)
        constant = ("256", "279", "304", "332", "362", "395", "431", "470")[index]
        axes.text(10.75, y + 0.08, f"× {constant}", ha="center", fontsize=6.5, color=INK)
        _arrow(axes, (10.05, y + 0.15), (10.45, y + 0.15))
    axes.text(9.575, 4.95, "24-bit bins", ha="center", fontsize=7, color=MUTED)
    axes.text(10.75, 4.95, r"2^(r/8), f = 8", ha="center", fontsize=7, color=MUTED)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": MUTED, "lw": 1}
    )
