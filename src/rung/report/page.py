"""report.html of one run: everything that its folder says, in one file."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rung import extras
from rung.report import angles, curves, medians, memory, numbers, rungs, style, weights
from rung.report.atomic import write_atomically
from rung.report.bound import judge
from rung.report.facts import (
    ADAMW_BYTES,
    FREE,
    edge_shares,
    formats_of,
    in_nats,
    layer_bound,
    metric_of,
    parts_of,
    rungs_per_bin,
    whole_model,
)
from rung.report.run import Run, read_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES: dict[str, tuple[str, Callable[[Run], "Figure | None"]]] = {
    "curves": ("Loss, metric and learning rate along training", curves.draw),
    "memory": ("Bytes per weight of every part of the model", memory.draw),
    "rungs": ("Rungs in use", rungs.draw),
    "weights": ("Distribution of ln|w| in every layer", weights.draw),
    "medians": ("Logarithms of w+ and w- beside a normal distribution", medians.draw),
    "angles": ("Learning rate and the bound of Theorem 1 for every layer", angles.draw),
}
"""Name of the picture: its title, and what draws it (None where the run lacks the numbers)."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A key figure at the head of a page."""

    label: str
    value: str
    note: str = ""


def write_report(folder: str | Path) -> Path:
    """Write report.html and pictures/*.png into a run folder.

    The page holds its figures and styles, so it can be sent as one file and opened offline. A run
    that has not ended, or diverged, gets a report of what there is.

    Args:
        folder: A folder that `rung train` wrote.

    Returns:
        Path of report.html.

    Raises:
        ValueError: The folder is no run, or one of its files is damaged (see `read_run`).
        ImportError: matplotlib or Jinja2 is missing; the text names the pip command.
    """
    run = read_run(folder)
    svgs, pngs = draw_all(run)
    page = render("template.html", page_of(run, svgs)).encode()
    pictures = run.folder / "pictures"
    pictures.mkdir(exist_ok=True)
    for name in FIGURES:
        if name in pngs:
            write_atomically(pictures / f"{name}.png", pngs[name])
        else:
            # What an earlier report drew from numbers that are gone would mislead.
            (pictures / f"{name}.png").unlink(missing_ok=True)
    target = run.folder / "report.html"
    write_atomically(target, page)
    return target


def draw_all(run: Run) -> tuple[dict[str, str], dict[str, bytes]]:
    """The figures that a run has numbers for, as SVG elements and as PNG files."""
    svgs, pngs = {}, {}
    with style.style():
        for name, (title, draw) in FIGURES.items():
            figure = draw(run)
            if figure is not None:
                svgs[name] = style.to_svg(figure, name, title)
                pngs[name] = style.to_png(figure)
    return svgs, pngs


def render(template: str, values: dict[str, Any]) -> str:
    """Fill one of the page templates that lie beside this module; all text is escaped."""
    jinja2 = extras.require("jinja2")
    here = resources.files("rung.report")
    names = ("layout.html", "template.html", "comparison.html", "sweep.html")
    sources = {name: here.joinpath(name).read_text(encoding="utf-8") for name in names}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(sources),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return str(environment.get_template(template).render(**values))


def page_of(run: Run, svgs: dict[str, str]) -> dict[str, Any]:
    """Every value that the template shows, ready to print."""
    ladders = rungs.sum_by_ladder(rungs.coded_layers(run))
    return {
        "title": f"{run.config['recipe']} · {run.name}",
        "run": run,
        "figures": {name: svgs.get(name) for name in FIGURES},
        "titles": {name: title for name, (title, _) in FIGURES.items()},
        "formats": formats_of(run) or "float32 weights",
        "reason": reason_of(run),
        "tiles": tiles_of(run),
        "verdict": judge(run),
        "parts": part_rows(run),
        "layers": layer_rows(run),
        "medians": medians.rows(run),
        "drawn_tensors": medians.MOST_TENSORS,
        "binned": max((rungs_per_bin(ladder) for ladder in ladders), default=1),
        "drawn_rows": weights.MOST_ROWS,
        "drawn_panels": rungs.MOST_PANELS,
        "ends": rungs.SIGNED_ENDS if run.config["optimizer"] == FREE else rungs.ENDS,
        "settings": setting_rows(run),
        "environment": dict_rows(run.config.get("environment") or {}),
    }


def reason_of(run: Run) -> str:
    """Why a run diverged, as a sentence."""
    reason = (run.summary or {}).get("reason")
    if not isinstance(reason, str) or not reason:
        return "Its loss left the range in which training goes on, and it was stopped."
    return reason[0].upper() + reason[1:].rstrip(".") + "."


def tiles_of(run: Run) -> list[Tile]:
    """The key figures of a run."""
    metric, whole = metric_of(run), whole_model(run)
    tiles = []
    if metric is not None:
        value = numbers.metric(metric.name, metric.final)
        best = f"best {numbers.metric(metric.name, metric.best)}"
        tiles.append(Tile(metric.title, value, best))
    if whole is not None:
        weight, state = whole.per_weight
        parts = f"weights {weight:.2f} + state {state:.2f}; AdamW float32: {ADAMW_BYTES:.0f}"
        tiles.append(Tile("bytes per weight", f"{weight + state:.2f}", parts))
        size = numbers.byte_size(whole.weight_bytes + whole.state_bytes)
        tiles.append(Tile("weights", numbers.compact(whole.numel), f"{size} with state"))
    posterior = run.summary.get("posterior") if run.summary else None
    if posterior:
        error = numbers.percent(posterior["ece"], 2)
        note = f"mean of {posterior['samples']} samples; " + ", ".join(
            f"{point} {numbers.percent(posterior[point]['ece'], 2)}" for point in ("mean", "median")
        )
        tiles.append(Tile("calibration error", error, note))
    if run.summary is not None:
        time = run.summary["time"]
        step = time["ms_per_step"]
        value = numbers.MISSING if step is None else f"{numbers.significant(step)} ms"
        total = f"{numbers.count(time['steps'])} steps in {numbers.duration(time['seconds'])}"
        tiles.append(Tile("median training step", value, total))
        skipped = run.summary.get("skipped_steps")
        if skipped:
            tiles.append(Tile("skipped steps", numbers.count(skipped), "gradients not finite"))
    return tiles


def part_rows(run: Run) -> list[list[str]]:
    """Table behind the figure of memory; the whole model last."""
    whole = whole_model(run)
    parts = parts_of(run) + ([whole] if whole else [])
    return [
        [
            part.name,
            numbers.count(part.numel),
            numbers.byte_size(part.weight_bytes),
            numbers.byte_size(part.state_bytes),
            *(numbers.fixed(value) for value in (*part.per_weight, sum(part.per_weight))),
        ]
        for part in parts
    ]


def layer_rows(run: Run) -> list[dict[str, Any]]:
    """Table of layers: memory, angle, bound and the share of weights on the end rungs."""
    if run.diagnostics is None:
        return []
    depth = run.diagnostics["depth"]
    lr = in_nats(run, run.diagnostics["lr"] or run.config.get("lr"))
    rows = []
    for layer in run.diagnostics["layers"]:
        bound = layer_bound(layer["angle"], depth)
        shares = edge_shares(layer["rungs"])
        rows.append(
            {
                "name": layer["name"],
                "kind": layer["kind"],
                "shape": " × ".join(str(size) for size in layer["shape"]) or "scalar",
                "format": layer["format"] or "float32",
                "bytes": numbers.byte_size(layer["weight_bytes"] + layer["state_bytes"]),
                "angle": numbers.degrees(layer["angle"]),
                "bound": numbers.significant(bound),
                "below": bound is not None and lr is not None and bound < lr,
                "top": numbers.percent(shares[0] if shares else None),
                "bottom": numbers.percent(shares[1] if shares else None),
            }
        )
    return rows


def setting_rows(run: Run) -> list[tuple[str, str]]:
    """Settings of the run that are not in the head of the page, each once."""
    names = ("lr", "epochs", "schedule", "batch_size", "device")
    first = {name: run.config[name] for name in names if run.config.get(name) is not None}
    # Some options stand in both places; the ones at the top come first.
    return dict_rows(first | (run.config.get("options") or {}) | (run.config.get("layers") or {}))


def dict_rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    """A dictionary as rows of text; null is a dash."""
    return [
        (key.replace("_", " "), numbers.MISSING if value is None else str(value))
        for key, value in values.items()
    ]
