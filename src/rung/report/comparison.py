"""comparison.html of several runs: one table, and one picture for each recipe."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rung.report import numbers, style, table
from rung.report.atomic import write_atomically
from rung.report.facts import ADAMW_BYTES, metric_series
from rung.report.page import render
from rung.report.rows import Row, rows_of, seed_groups, unequal_conditions
from rung.report.run import read_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))


def compare(folders: Sequence[str | Path], out: str | Path | None = None) -> list[Row]:
    """Compare runs: write comparison.html and a picture for each recipe.

    Args:
        folders: Run folders; one that is named twice counts once.
        out: Where to write: a folder, or a path that ends in ``.html``. Default: beside the first
            run. Missing folders are made.

    Returns:
        One row for each run, in the order given, for `comparison_table`.

    Raises:
        ValueError: No folders; or one is no run or holds a damaged file (see `read_run`).
        ImportError: matplotlib or Jinja2 is missing; the text names the pip command.
    """
    unique = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    target = comparison_path(unique, out)
    rows = rows_of([read_run(folder) for folder in unique])
    sections, pngs = [], {}
    with style.style():
        for title, same in table.by_recipe(rows).items():
            name = f"{target.stem}-{slug(title)}"
            figure = draw(same)
            picture = style.to_svg(figure, name, f"Runs of {title}")
            pngs[name] = style.to_png(figure)
            sections.append(section_of(title, same, picture))
    values = {
        "title": f"Comparison of {len(rows)} run{'s' if len(rows) > 1 else ''}",
        "headings": [(name, name in table.RIGHT) for name in table.HEADINGS],
        "sections": sections,
        "commands": [(row.name, row.run.config.get("command")) for row in rows],
    }
    page = render("comparison.html", values).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    for name, png in pngs.items():
        write_atomically(target.with_name(f"{name}.png"), png)
    write_atomically(target, page)
    return rows


def comparison_path(folders: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Where `compare` writes its page for these arguments.

    Raises:
        ValueError: There are no folders.
    """
    if not folders:
        raise ValueError("`folders` must name at least one run; got none. Pass run folders.")
    if out is None:
        return Path(folders[0]).resolve().parent / "comparison.html"
    path = Path(out)
    return path if path.suffix == ".html" else path / "comparison.html"


def section_of(title: str, rows: Sequence[Row], picture: str) -> dict[str, Any]:
    """What the page shows of one recipe."""
    return {
        "title": title,
        "picture": picture,
        "rows": [table.cells(row) for row in rows],
        "groups": [(g.rows[0].setup, table.spread(g)) for g in seed_groups(rows)],
        "notes": unequal_conditions(rows),
    }


def slug(text: str) -> str:
    """Text as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "runs"


def draw(rows: Sequence[Row]) -> "Figure":
    """Metric along training, and final metric over bytes per weight."""
    setups = list(dict.fromkeys(row.setup for row in rows))
    figure = style.new_figure(9, 3.9 + 0.2 * ((len(setups) + 1) // 2))
    along, traded = figure.subplots(1, 2)
    in_percent = _in_percent(rows)
    factor = 100.0 if in_percent else 1.0
    for index, setup in enumerate(setups):
        colour = style.SERIES[index % len(style.SERIES)]
        dashes = _DASHES[index // len(style.SERIES) % len(_DASHES)]
        for row in (row for row in rows if row.setup == setup and row.metric):
            _draw_row(along, traded, row, colour, dashes, factor)
        along.plot([], [], color=colour, linestyle=dashes, label=numbers.shorten(setup, 48))
    metric = next((row.metric for row in rows if row.metric), None)
    title = metric.title if metric else "metric"
    better = "higher" if metric and metric.higher_is_better else "lower"
    along.set_title("Along training")
    along.set_xlabel("training step")
    along.set_ylabel(f"{title}{' (%)' if in_percent else ''}, {better} is better")
    traded.set_title("Final value and memory")
    traded.set_xlabel("bytes per weight, weights and optimizer state")
    traded.set_xlim(0, max([ADAMW_BYTES, *(row.both_bytes or 0.0 for row in rows)]) * 1.08)
    traded.axvline(ADAMW_BYTES, color=style.MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    if not traded.collections:
        traded.text(0.5, 0.5, "no final value yet", transform=traded.transAxes, ha="center")
    figure.legend(*along.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _draw_row(
    along: "Axes", traded: "Axes", row: Row, colour: str, dashes: object, factor: float
) -> None:
    if row.metric is None:
        return
    steps, values = metric_series(row.run.eval_records, row.metric.name, row.metric.split)
    shown = [factor * value for value in values]
    along.plot(
        steps,
        shown,
        color=colour,
        linestyle=dashes,
        linewidth=1.3,
        marker="o",
        markersize=3 if len(values) > 1 else 6,
    )
    if row.metric.final is not None and row.both_bytes is not None:
        finished = row.run.status == "finished"
        traded.scatter(
            [row.both_bytes],
            [factor * row.metric.final],
            s=46 if finished else 80,
            marker="o" if finished else "X",
            facecolor=colour,
            edgecolor=style.PAPER,
            linewidth=0.8,
            zorder=3,
        )


def _in_percent(rows: Sequence[Row]) -> bool:
    metrics = [row.metric for row in rows if row.metric]
    finals = [metric.final for metric in metrics if metric.final is not None]
    return bool(metrics) and numbers.is_fraction(metrics[0].name) and max([*finals, 0.0]) <= 1
