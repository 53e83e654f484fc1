"""Tables of experiments/lmd.py and benchmarks/lmd_step.py."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import walk_table
from result_files import (
    BENCHMARKS,
    Run,
    by_label,
    bytes_a_weight,
    exists,
    load,
    measured,
    origin,
)

BUDGETS = ("chars-short", "chars-long", "vit-short", "vit-long")
# Field of a posterior record, factor, form.
_SCORES = (("metric", 100, ".2f"), ("loss", 1, ".4f"), ("ece", 100, ".2f"))
_CALIBRATED = ("LMD, float32", "LMD, MXFP4")
_RECIPES = {"chars": "chars-gpt", "vit": "digits-vit"}


@dataclass(frozen=True)
class Measure:
    """What of a run stands in a table."""

    heading: str
    value: Callable[[Run], float]
    form: str
    relative: bool
    """Whether a change is in % of the value, or the difference in its own unit."""


VALID_LOSS = Measure("validation loss, nats", lambda run: run["loss"]["eval"], ".4f", True)
TEST_LOSS = Measure("test loss, nats", lambda run: run["loss"]["eval"], ".4f", True)
ACCURACY = Measure("test accuracy, %", lambda run: 100 * run["metric"]["final"], ".2f", False)


def finished(runs: list[Run], measure: Measure) -> list[float]:
    """Values of the runs that ended."""
    return [measure.value(run) for run in runs if run["status"] == "finished"]


def figure(runs: list[Run], measure: Measure, base: list[Run]) -> str:
    """Mean, spread over the seeds, change against other runs, and how many diverged."""
    values, theirs = finished(runs, measure), finished(base, measure)
    parts = []
    if values:
        several = f" ± {stdev(values):{measure.form}}" if len(values) > 1 else ""
        parts.append(f"{mean(values):{measure.form}}{several}")
    if values and theirs and runs is not base:
        parts.append(f"({change(mean(values), mean(theirs), measure)})")
    diverged = len(runs) - len(values)
    if diverged:
        parts.append(f"({diverged} diverged)")
    return " ".join(parts)


def change(value: float, base: float, measure: Measure) -> str:
    """``+0.3 %``, or ``-0.20`` in the measure's own unit."""
    if measure.relative:
        return f"{100 * (value / base - 1):+.2f} %"
    return f"{value - base:+{measure.form}}"


def note(result: dict[str, Any], what: str) -> str:
    """What the figures are, and where they come from."""
    first = result["runs"][0]
    seeds = sorted({run["seed"] for run in result["runs"]})
    kind = "one run each"
    if len(seeds) > 1:
        kind = f"mean over {len(seeds)} seeds, ± the standard deviation over them"
    text = origin(result, first["environment"], kind, seeds)
    steps = max(run["time"]["steps"] for run in result["runs"])  # diverged ones ended before
    return f"{what} {steps:,} steps a run. {text}".strip()


# -- optimizers by formats ---------------------------------------------------------------------


def comparison(budget: str) -> str:
    """Optimizers by formats; of digits-vit the accuracy, then the test loss."""
    result = load(f"lmd-{budget}")
    measures = (ACCURACY, TEST_LOSS) if budget.startswith("vit") else (VALID_LOSS,)
    lines = [line for measure in measures for line in (*formats_grid(result, measure), "")]
    inner = "In brackets the change against the same optimizer in float32."
    return "\n".join([*lines, note(result, inner), ""])


def formats_grid(result: dict[str, Any], measure: Measure) -> list[str]:
    """One row an optimizer, one column a format; labels are ``OPTIMIZER, FORMAT``."""
    cells: dict[str, dict[str, list[Run]]] = {}
    for label, runs in by_label(result).items():
        rule, _, name = label.rpartition(", ")
        cells.setdefault(rule, {})[name] = runs
    columns = list(dict.fromkeys(name for row in cells.values() for name in row))
    lines = [
        f"| {measure.heading} | lr | " + " | ".join(columns) + " |",
        "|---|---:|" + "---:|" * len(columns),
    ]
    for rule, row in cells.items():
        base = row.get("float32", [])
        lr = next(iter(row.values()))[0]["lr"]
        figures = [figure(row.get(name, []), measure, base) for name in columns]
        lines.append(f"| {rule} | {lr:.3g} | " + " | ".join(figures) + " |")
    return lines


def long_rates() -> str:
    """Rates of the long runs of digits-vit at the tuning's seed."""
    result = load("lmd-vit-long-rates")
    lines = [f"| | {ACCURACY.heading} | {TEST_LOSS.heading} |", "|---|---:|---:|"]
    for label, runs in by_label(result).items():
        cells = [figure(runs, measure, runs) for measure in (ACCURACY, TEST_LOSS)]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", note(result, ""), ""])


def tuning() -> str:
    """Every learning rate that was tried with its loss, the lowest in bold."""
    lines = ["| recipe | steps | optimizer | loss at each lr | chosen |", "|---|---:|---|---|---:|"]
    found = [budget for budget in BUDGETS if exists(f"tune-{budget}")]
    for budget in found:
        result = load(f"tune-{budget}")
        recipe = _RECIPES[budget.partition("-")[0]]
        steps = f"{max(run['time']['steps'] for run in result['runs']):,}"
        rows: dict[str, list[Run]] = {}
        for run in result["runs"]:
            rows.setdefault(run["label"].partition(",")[0], []).append(run)
        for rule, runs in rows.items():
            ended = [run for run in runs if run["status"] == "finished"]
            best = min(ended, key=VALID_LOSS.value, default=None)
            tried = ", ".join(trial(run, best) for run in sorted(runs, key=lambda run: run["lr"]))
            chosen = f"{best['lr']:g}" if best else ""
            lines.append(f"| {recipe} | {steps} | {rule} | {tried} | {chosen} |")
    if not found:
        return "(not yet measured)\n"
    what = (
        "Loss in nats: chars-gpt's on the validation text, digits-vit's on the test images, for it "
        "has no third part. float32."
    )
    files = ", ".join(f"`tune-{budget}.json`" for budget in found)
    seeds = sorted({run["seed"] for run in load(f"tune-{found[0]}")["runs"]})
    words = f"Seed {', '.join(map(str, seeds))}, which no other table has."
    return "\n".join([*lines, "", f"{what} {words} `experiments/results/`: {files}.", ""])


def trial(run: Run, best: Run | None) -> str:
    """``0.002: 1.7420``."""
    if run["status"] != "finished":
        return f"{run['lr']:g}: diverged"
    text = f"{run['lr']:g}: {VALID_LOSS.value(run):.4f}"
    return f"**{text}**" if run is best else text


# -- one optimizer, changed --------------------------------------------------------------------


def variants(name: str, heading: str, base: str) -> str:
    """Rows of loss, each against one of them."""
    result = load(name)
    rows = by_label(result)
    lines = [f"| {heading} | {VALID_LOSS.heading} |", "|---|---:|"]
    lines += [
        f"| {label} | {figure(runs, VALID_LOSS, rows[base])} |" for label, runs in rows.items()
    ]
    what = f"LMD at its tuned lr. In brackets the change against the row “{base}”."
    return "\n".join([*lines, "", note(result, what), ""])


def side_by_side(name: str, heading: str, base: str) -> str:
    """The same changes of LMD and of AdamW, each against its own row."""
    files = {"LMD": f"lmd-{name}", "AdamW": f"adamw-{name}"}
    results = {rule: load(file) for rule, file in files.items() if exists(file)}
    rows = {rule: by_label(result) for rule, result in results.items()}
    labels = list(dict.fromkeys(label for found in rows.values() for label in found))
    lines = [
        f"| {heading}; {VALID_LOSS.heading} | " + " | ".join(results) + " |",
        "|---|" + "---:|" * len(results),
    ]
    for label in labels:
        cells = [figure(f.get(label, []), VALID_LOSS, f.get(base, [])) for f in rows.values()]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    what = f"Tuned lr of float32. In brackets the change against the row “{base}” of the column."
    if len(results) > 1:
        what += f" AdamW's rows are in `experiments/results/{files['AdamW']}.json`."
    return "\n".join([*lines, "", note(next(iter(results.values())), what), ""])


def scale_rules() -> str:
    """MX formats of the forward pass by scale rules; ``floor`` is that of the comparison."""
    result = load("lmd-rules")
    floor, others = by_label(load("lmd-chars-short")), by_label(result)
    base = floor["LMD, float32"]
    lines = [
        f"| LMD, forward in; {VALID_LOSS.heading} | scale rule floor | even | ceil |",
        "|---|---:|---:|---:|",
    ]
    for name in dict.fromkeys(label.partition(",")[0] for label in others):
        rows = [floor[f"LMD, {name}"]]
        rows += [others[f"{name}, scale rule {rule}"] for rule in ("even", "ceil")]
        lines.append(f"| {name} | " + " | ".join(figure(r, VALID_LOSS, base) for r in rows) + " |")
    what = f"In brackets the change against float32, {figure(base, VALID_LOSS, base)}."
    return "\n".join([*lines, "", note(result, what), ""])


def storage() -> str:
    """State of LMD: loss and measured bytes."""
    result = load("lmd-storage")
    rows = by_label(result)
    lines = [
        f"| `state` | {VALID_LOSS.heading} | bytes a weight: weights + state |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| `{label}` | {figure(runs, VALID_LOSS, rows['fp32'])} | {bytes_a_weight(runs[0])} |"
        for label, runs in rows.items()
    ]
    what = "In brackets the change against fp32. Biases and norm gains and their AdamW included."
    return "\n".join([*lines, "", note(result, what), ""])


def calibration() -> str:
    """Posterior predictive beside the posterior's mean and median, on the digits."""
    result = load("lmd-vit-short")
    lines = [
        "| weights | test accuracy, % | NLL, nats | ECE, 15 bins, % |",
        "|---|---:|---:|---:|",
    ]
    for label in _CALIBRATED:
        runs = by_label(result)[label]
        records = [run["posterior"] for run in runs if run["status"] == "finished"]
        points = {"average of 8 samples": records}
        points |= {f"the {name}": [found[name] for found in records] for name in ("mean", "median")}
        for name, scores in points.items():
            cells = [score_figure(scores, *score) for score in _SCORES]
            lines.append(f"| {label}: {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", note(result, ""), ""])


def score_figure(scores: list[dict[str, Any]], key: str, factor: float, form: str) -> str:
    """Mean of a score over the seeds, with its spread."""
    values = [factor * score[key] for score in scores if score[key] is not None]
    if not values:
        return ""
    several = f" ± {stdev(values):{form}}" if len(values) > 1 else ""
    return f"{mean(values):{form}}{several}"


# -- time --------------------------------------------------------------------------------------


def step_table() -> str:
    """LMD's step beside AdamW's."""
    result = json.loads((BENCHMARKS / "lmd_step.json").read_text())
    lines = [
        "| optimizer alone | weights | ns a weight | AdamW foreach = 1 |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row['label']} | {row['weights']:,} | {row['ns']:.2f} | {row['ratio']:.2f} |"
        for row in result["optimizer"]
    ]
    lines += ["", "| whole training step, chars-gpt | ms | AdamW foreach = 1 |", "|---|---:|---:|"]
    lines += [
        f"| {row['label']} | {row['ms']:.0f} | {row['ratio']:.3f} |"
        for row in result["training_step"]
    ]
    environment = result["environment"]
    words = (
        f"{result['clock']}; {environment['processor']} (shared), torch {environment['torch']}. "
        f"`{result['command']}`"
    )
    return "\n".join([*lines, "", words, ""])


def compare(budget: str) -> Callable[[], str]:
    """The table of one budget."""
    return measured(f"lmd-{budget}", lambda: comparison(budget))


TABLES: dict[str, Callable[[], str]] = {
    **{f"lmd-{budget}": compare(budget) for budget in BUDGETS},
    "lmd-tuning": tuning,
    "lmd-vit-long-rates": measured("lmd-vit-long-rates", long_rates),
    "lmd-ablation": measured(
        "lmd-ablation", lambda: variants("lmd-ablation", "LMD in float32", "as it is")
    ),
    "lmd-storage": measured("lmd-storage", storage),
    "lmd-four-bits": measured(
        "lmd-four-bits", lambda: side_by_side("four-bits", "forward in 4 bits", "MXFP4")
    ),
    "lmd-backward": measured(
        "lmd-backward",
        lambda: side_by_side("backward", "forward MXFP6-E3M2, backward in", "float32"),
    ),
    "lmd-rules": measured("lmd-rules", scale_rules),
    "lmd-calibration": measured("lmd-vit-short", calibration),
    "lmd-walk": walk_table.walk,
    "lmd-defaults": walk_table.defaults,
    "lmd-step": measured(BENCHMARKS / "lmd_step.json", step_table),
}
