"""Figure: loss, metric and learning rate along training."""

from collections import deque
from typing import TYPE_CHECKING, Any

from rung.report import numbers, style
from rung.report.facts import finite, metric_of, metric_series
from rung.report.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPLIT_COLOURS = {"test": style.VERMILLION, "valid": style.GREEN}


def draw(run: Run) -> "Figure | None":
    """Curves of a run, or None when it has logged nothing."""
    train, evals = run.train_records, run.eval_records
    if not train and not evals:
        return None
    figure = style.new_figure(9, 4.4)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 1.15))
    loss = figure.add_subplot(grid[0, 0])
    lr = figure.add_subplot(grid[1, 0], sharex=loss)
    metric = figure.add_subplot(grid[:, 1])
    _draw_loss(loss, train, evals)
    # A loss that falls leaves the upper right free, one that explodes the upper left.
    loss.legend(loc="upper left" if run.status == "diverged" else "upper right")
    _draw_lr(lr, train)
    _draw_metric(metric, run)
    steps = [record["step"] for record in (*train, *evals)]
    for axes in (loss, metric):
        axes.set_xlim(0, max(*steps, 1) * 1.02)
        if run.status == "diverged":
            axes.axvline(max(steps), color=style.VERMILLION, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                "diverged",
                (max(steps), 0.04),
                xycoords=("data", "axes fraction"),
                xytext=(-3, 0),
                textcoords="offset points",
                rotation=90,
                ha="right",
                va="bottom",
                color=style.VERMILLION,
                fontsize=8.5,
            )
    return figure


def running_mean(values: list[float], window: int) -> list[float]:
    """Mean of the last ``window`` finite values at every place; NaN where the value is NaN."""
    means = []
    recent: deque[float] = deque(maxlen=window)
    total = 0.0
    for value in values:
        if value != value:
            means.append(value)
            continue
        if len(recent) == window:
            total -= recent[0]
        recent.append(value)
        total += value
        means.append(total / len(recent))
    return means


def _draw_loss(axes: "Axes", train: list[dict[str, Any]], evals: list[dict[str, Any]]) -> None:
    axes.set_title("Loss")
    axes.tick_params(labelbottom=False)
    steps = [record["step"] for record in train]
    values = [finite(record["loss"]) for record in train]
    seen = list(values)
    if len(train) >= 40:
        window = max(2, len(train) // 20)
        axes.plot(steps, values, color=style.BLUE, alpha=0.25, linewidth=0.8)
        axes.plot(steps, running_mean(values, window), color=style.BLUE, label="training (mean)")
    elif train:
        axes.plot(steps, values, color=style.BLUE, marker=_marker(values), label="training")
    for split in sorted({record["split"] for record in evals}):
        chosen = [record for record in evals if record["split"] == split]
        points = [finite(record["loss"]) for record in chosen]
        seen += points
        axes.plot(
            [record["step"] for record in chosen],
            points,
            color=_SPLIT_COLOURS.get(split, style.PURPLE),
            marker="o",
            markersize=3.5,
            label=split,
        )
    known = [value for value in seen if value == value]
    if known and min(known) > 0 and max(known) > 50 * min(known):
        axes.set_yscale("log")
        style.plain_log_axis(axes.yaxis)
    if not known:
        _say(axes, "no finite loss was logged")


def _draw_lr(axes: "Axes", train: list[dict[str, Any]]) -> None:
    axes.set_title("Learning rate")
    axes.set_xlabel("training step")
    steps = [record["step"] for record in train if record.get("lr") is not None]
    values = [finite(record["lr"]) for record in train if record.get("lr") is not None]
    axes.plot(steps, values, color=style.INK, linewidth=1.2, marker=_marker(values))
    if values:
        axes.set_ylim(0, max([value for value in values if value == value] or [1.0]) * 1.15 or 1)
    else:
        _say(axes, "not logged")


def _draw_metric(axes: "Axes", run: Run) -> None:
    metric = metric_of(run)
    axes.set_xlabel("training step")
    if metric is None:
        axes.set_title("Metric")
        _say(axes, "no evaluation yet")
        return
    axes.set_title(metric.title[:1].upper() + metric.title[1:])
    steps, values = metric_series(run.eval_records, metric.name, metric.split)
    in_percent = numbers.is_fraction(metric.name) and max([*values, 0.0]) <= 1
    shown = [100 * value for value in values] if in_percent else values
    colour = _SPLIT_COLOURS.get(metric.split, style.PURPLE)
    axes.plot(steps, shown, color=colour, marker="o", markersize=4)
    axes.set_ylabel(f"{metric.name.replace('_', ' ')}{' (%)' if in_percent else ''}")
    known = [value for value in shown if value == value]
    if in_percent and known:
        # No share is above 100 %, and one value alone needs some room around it.
        margin = max(0.05 * (max(known) - min(known)), 1.0)
        axes.set_ylim(max(0.0, min(known) - margin), min(100.0, max(known) + margin))
    if not known:
        _say(axes, "no evaluation yet" if not values else "no finite value")
    elif metric.best is not None:
        best = 100 * metric.best if in_percent else metric.best
        axes.axhline(best, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            f"best {numbers.metric(metric.name, metric.best)}",
            (0.02, best),
            xycoords=("axes fraction", "data"),
            xytext=(0, -3 if metric.higher_is_better else 3),
            textcoords="offset points",
            va="top" if metric.higher_is_better else "bottom",
            color=style.MUTED,
            fontsize=8.5,
        )


def _marker(values: list[float]) -> str:
    # A line of one point is invisible.
    return "o" if len(values) == 1 else ""


def _say(axes: "Axes", text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=style.MUTED)
    axes.set_yticks([])
