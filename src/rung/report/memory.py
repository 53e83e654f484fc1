"""Figure: bytes per weight of every part of the model, against AdamW in float32."""

from typing import TYPE_CHECKING

from rung.report import numbers, style
from rung.report.facts import ADAMW_BYTES, Part, parts_of, whole_model
from rung.report.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_ROWS = 12


def draw(run: Run) -> "Figure | None":
    """Stacked bars of weights and optimizer state, or None when nothing was measured."""
    whole = whole_model(run)
    if whole is None:
        return None
    rows = [whole, *fold(parts_of(run), _MOST_ROWS)]
    figure = style.new_figure(9, 1.25 + 0.36 * len(rows))
    axes = figure.add_subplot()
    places = [0.0, *(index + 0.35 for index in range(1, len(rows)))]
    weights = [row.per_weight[0] for row in rows]
    states = [row.per_weight[1] for row in rows]
    axes.barh(places, weights, height=0.62, color=style.BLUE, label="weights")
    axes.barh(
        places, states, left=weights, height=0.62, color=style.ORANGE, label="optimizer state"
    )
    totals = [sum(row.per_weight) for row in rows]
    _label_bars(axes, places, totals)
    _mark_adamw(axes)
    labels = [f"{numbers.shorten(row.name, 34)}  ({numbers.compact(row.numel)})" for row in rows]
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_ylim(max(places) + 0.6, -0.6)
    axes.set_xlim(0, 1.09 * max(ADAMW_BYTES, *totals))
    axes.set_xlabel("bytes per weight (number of weights in brackets; gradients not counted)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2)
    return figure


def _label_bars(axes: "Axes", places: list[float], totals: list[float]) -> None:
    for place, total in zip(places, totals, strict=True):
        axes.annotate(
            f"{total:.2f}",
            (total, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            fontweight="bold" if place == 0 else "normal",
            bbox={"facecolor": style.PAPER, "edgecolor": "none", "pad": 1},
        )


def _mark_adamw(axes: "Axes") -> None:
    axes.axvline(ADAMW_BYTES, color=style.INK, linewidth=1, linestyle=(0, (4, 3)), zorder=0.9)
    axes.annotate(
        "AdamW float32: 12",
        (ADAMW_BYTES, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
    )


def fold(parts: list[Part], most: int) -> list[Part]:
    """At most ``most`` parts; the smallest ones are added up in a last row."""
    if len(parts) <= most:
        return parts
    rest = parts[most - 1 :]
    return [
        *parts[: most - 1],
        Part(
            f"{len(rest)} smaller parts",
            sum(part.numel for part in rest),
            sum(part.weight_bytes for part in rest),
            sum(part.state_bytes for part in rest),
        ),
    ]
