"""Figures of experiments/lmd.py: loss over the learning rate, and histograms of the medians."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from result_files import RESULTS, Run, by_label, load

from rung.report import medians
from rung.report.run import Run as RunFolder
from rung.report.style import BLUE, GREEN, VERMILLION, new_figure

MEDIANS = RESULTS / "lmd-medians.json"
_COLORS = {"AdamW": BLUE, "Madam": GREEN, "LMD": VERMILLION}
_HIGHEST = 3.0
"""Losses above this (nats) are drawn at the upper end, as are diverged runs."""
_MOMENTS, _TENSORS = 3, 4


_PANELS = {
    "tune-chars-short": "chars-gpt, 700 steps",
    "tune-chars-long": "chars-gpt, 5,000 steps",
    "tune-vit-short": "digits-vit, 720 steps",
}


def rates() -> Any:
    """Loss over the learning rate, a panel a task, a line an optimizer; float32."""
    figure = new_figure(8.6, 3.6)
    panels = figure.subplots(1, len(_PANELS), squeeze=False)[0]
    for axes, (name, title) in zip(panels, _PANELS.items(), strict=True):
        rules: dict[str, list[Run]] = {}
        for label, runs in by_label(load(name)).items():
            rules.setdefault(label.partition(",")[0], []).extend(runs)
        finite = [_loss(run) for runs in rules.values() for run in runs]
        highest = min(_HIGHEST, max(filter(math.isfinite, finite)))
        for rule, runs in rules.items():
            _draw_rates(axes, rule, runs, highest)
        axes.set_title(title)
        axes.set_xscale("log")
        axes.set_xlim(4e-4, 0.25)
        axes.set_xticks([0.001, 0.01, 0.1], ["0.001", "0.01", "0.1"])
        axes.minorticks_off()
        axes.set_xlabel("learning rate")
    panels[0].set_ylabel("loss, nats")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _draw_rates(axes: Any, rule: str, runs: list[Run], highest: float) -> None:
    """One line; open marks where the loss is beyond the axis, or the run diverged."""
    runs = sorted(runs, key=lambda run: float(run["lr"]))
    rates = [run["lr"] for run in runs]
    losses = [_loss(run) for run in runs]
    inside = [loss if loss <= highest else math.nan for loss in losses]
    axes.plot(rates, inside, color=_COLORS[rule], marker="o", markersize=3.5, label=rule)
    beyond = [rate for rate, loss in zip(rates, losses, strict=True) if loss > highest]
    axes.plot(beyond, [highest] * len(beyond), "o", color=_COLORS[rule], fillstyle="none")


def _loss(run: Run) -> float:
    return float(run["loss"]["eval"]) if run["status"] == "finished" else math.inf


# -- histograms --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extract:
    """What the report's drawing asks of a run folder."""

    medians_records: list[dict[str, Any]]


def keep_medians(folder: Path) -> None:
    """Copy the start, an early evaluation and the last one of a run to a result file.

    Args:
        folder: Run folder of an LMD run.

    Raises:
        ValueError: The folder holds no histograms.
    """
    text = (folder / "metrics.jsonl").read_text()
    records = [row for row in map(json.loads, text.splitlines()) if row["kind"] == "medians"]
    if not records:
        raise ValueError(f"{folder} must hold an LMD run; got no histograms in metrics.jsonl.")
    last = len(records) - 1
    places = sorted({round(last * i / (_MOMENTS - 1)) for i in range(_MOMENTS)})
    config = json.loads((folder / "config.json").read_text())
    result = {
        "command": config["command"],
        "environment": config["environment"],
        "records": [records[place] for place in places],
    }
    MEDIANS.write_text(json.dumps(result, indent=1) + "\n")


def medians_figure() -> Any:
    """A few tensors' ln w+ and ln w- at three moments, beside the normal fit."""
    records = json.loads(MEDIANS.read_text())["records"]
    names = [tensor["name"] for tensor in records[-1]["tensors"]]
    last = len(names) - 1
    kept = {names[round(last * i / (_TENSORS - 1))] for i in range(_TENSORS)}
    few = [
        {**record, "tensors": [t for t in record["tensors"] if t["name"] in kept]}
        for record in records
    ]
    figure = medians.draw(cast(RunFolder, Extract(few)))
    assert figure is not None
    return figure
