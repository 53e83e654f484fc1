"""Tables of `rung reproduce` in Markdown."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from rung.report.reproduced_data import (
    against,
    best_rate,
    bytes_of,
    error_by_rate,
    finals,
    flatness,
    runs_of,
    seeds,
    shown,
    spread,
)

Record = Mapping[str, Any]


def table(record: Record) -> str:
    """The table of a results file, and below it what every row was trained on."""
    makers = {
        "table": _contest, "rates": _rates, "lines": _contest, "arena": _contest,
        "variants": _contest, "energy": _energy,
    }  # fmt: skip
    return makers[record["kind"]](record)


def _contest(record: Record) -> str:
    """A table a task: contestants, ours beside the paper's."""
    task = _arena if record["kind"] in ("arena", "variants") else _task
    blocks = [task(row) for row in shown(record)]
    return "\n".join([*blocks, *_missing(record), _origin(record)])


def _task(row: Record) -> str:
    with_paper = bool(row["published"])
    lines = [
        f"**{row['title']}** ({row['size']})",
        "",
        f"| | lr | {row['unit']} | bytes a weight |" + (" paper |" if with_paper else ""),
        "|---|---:|---:|---:|" + ("---:|" if with_paper else ""),
    ]
    for contestant in row["contestants"]:
        label = contestant["label"]
        runs = runs_of(row, label)
        if not runs:
            continue
        rate = f"{runs[0]['lr']:g}" + (" (tuned)" if label in row.get("chosen", {}) else "")
        cells = [label, rate, _outcome(row, label), _bytes(runs[0])]
        if with_paper:
            cells.append(row["published"].get(label, ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _notes(row), ""])


def _arena(row: Record) -> str:
    """Every contestant against the first one, with what it holds and how long its steps take."""
    first = row["contestants"][0]["label"]
    lines = [
        f"**{row['title']}** ({row['size']})",
        "",
        f"| | lr | {row['unit']} | against {first}, % | bytes a weight | ms a step |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for contestant in row["contestants"]:
        label = contestant["label"]
        runs = runs_of(row, label)
        if not runs:
            continue
        rate = f"{runs[0]['lr']:g}" + (" (tuned)" if label in row.get("chosen", {}) else "")
        behind = against(row, label, first)
        cells = [label, rate, _outcome(row, label, 3), "" if behind is None else f"{behind:+.1f}"]
        times = [run["time"]["ms_per_step"] for run in runs if run["time"]["ms_per_step"]]
        cells += [_bytes(runs[0]), f"{median(times):.0f}" if times else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _notes(row), ""])


def _outcome(row: Record, label: str, digits: int = 2) -> str:
    diverged = sum(run["status"] != "finished" for run in runs_of(row, label))
    remark = f"{diverged} diverged" if diverged else ""
    return ", ".join(part for part in (spread(finals(row, label), digits), remark) if part)


def _bytes(run: Record) -> str:
    return f"{bytes_of(run):.2f}"


def _rates(record: Record) -> str:
    """Best learning rate and flatness of every contestant on every task."""
    rows = shown(record)
    labels = [contestant["label"] for contestant in record["rows"][0]["contestants"]]
    lines = [
        "| best lr; octaves of lr within 5 % of the best error | " + " | ".join(labels) + " |",
        "|---|" + "---:|" * len(labels),
    ]
    for row in rows:
        cells = []
        for label in labels:
            errors = error_by_rate(row, label)
            if not errors:
                cells.append("")
                continue
            best, span = best_rate(errors), flatness(errors)
            cells.append("diverged" if best is None else f"{best:g}; {span:.1f}")
        lines.append(f"| {row['title']} | {' | '.join(cells)} |")
    notes = [f"- **{row['title']}**: {row['size']}. {_notes(row)}" for row in rows]
    return "\n".join([*lines, "", *notes, *_missing(record), "", _origin(record)])


def _energy(record: Record) -> str:
    """Savings by model and format, with the cost table's band."""
    others = list(record["rows"][0]["savings"])
    published = record["published"]
    heads = [f"against {name.upper()}, %" for name in others]
    lines = [f"| LNS8 saves | {' | '.join(heads)} |", "|---|" + "---:|" * len(others)]
    lines.append(f"| published | {' | '.join(published.get(name, '') for name in others)} |")
    for row in record["rows"]:
        cells = [
            f"{100 * value:.1f} ({100 * low:.0f} to {100 * high:.0f})"
            for value, low, high in row["savings"].values()
        ]
        lines.append(f"| {row['model']} | {' | '.join(cells)} |")
    environment = record["environment"]
    origin = (
        f"Products of a training step in batches of {record['batch']}; in brackets the band of the "
        f"cost table. A model, not a measurement. torch {environment['torch']}, commit "
        f"{str(environment['commit'])[:12]}."
    )
    return "\n".join([*lines, "", origin])


def _notes(row: Record) -> str:
    many = seeds(row)
    kind = "One run each, seed" if len(many) == 1 else "Mean and range over seeds"
    remark = f" {row['remark']}" if row["remark"] else ""
    trials = row.get("trials") or ()
    tuned = ""
    if trials:
        tuned = f" Learning rates by {len(trials)} trials at seed {trials[0]['seed']}."
    first = row["runs"][0]
    missing = "" if row["status"] == "measured" else f" Not complete: {row['reason']}"
    return (
        f"{kind} {', '.join(map(str, many))}.{tuned}{missing}{remark} Data: {first['data']}. "
        f"First run: `{first['command']}`."
    )


def _missing(record: Record) -> list[str]:
    lines = [
        f"- **{row['title']}**: not run. {row['reason']}"
        for row in record["rows"]
        if not row.get("runs")
    ]
    return ["", *lines, ""] if lines else []


def _origin(record: Record) -> str:
    """Machines, versions and commits of all runs."""
    every = [run["environment"] for row in record["rows"] for run in row.get("runs", ())]
    if not every:
        return ""
    machines = ", ".join(dict.fromkeys(e["processor"] for e in every))
    torches = ", ".join(dict.fromkeys(e["torch"] for e in every))
    commits = ", ".join(dict.fromkeys(str(e["commit"])[:12] for e in every))
    return (
        f"Budget `{record['budget']}`. Machine: {machines}; torch {torches}; commit {commits}. "
        "Bytes a weight: weights and optimizer state, measured."
    )
