"""Write the docs' tables from the result files, so that no figure is typed by hand.

    python docs/tables.py            rewrite README.md and docs/*.md
    python docs/tables.py --check    exit 1 if any of them is out of date

A page holds ``<!-- table: NAME -->`` and ``<!-- end -->``; what is between them is replaced.
"""

import json
import re
import sys
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def load(name: str) -> dict[str, Any]:
    """One result file."""
    data: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return data


def by_label(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Runs of each row of a table, in the file's order."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for run in result["runs"]:
        rows.setdefault(run["label"], []).append(run)
    return rows


def spread(values: list[float], form: str) -> str:
    """Mean, with the range where there are several."""
    if len(values) == 1:
        return format(values[0], form)
    return f"{mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def bytes_a_weight(run: dict[str, Any]) -> str:
    """Weights and optimizer state of one run, measured, per weight."""
    size = run["bytes"]
    weights, state = size["weights_per_weight"], size["state_per_weight"]
    return f"{weights:.2f} + {state:.2f} = {weights + state:.2f}"


def table(name: str, heading: str, factor: float, form: str) -> str:
    """Rows of label, metric, bytes; below them what was run, where and how."""
    result = load(name)
    lines = [
        f"| optimizer, weights | lr | {heading} | bytes a weight: weights + state |",
        "|---|---:|---:|---:|",
    ]
    for label, runs in by_label(result).items():
        diverged = sum(run["status"] != "finished" for run in runs)
        values = [factor * run["metric"]["final"] for run in runs if run["status"] == "finished"]
        figure = spread(values, form) if values else ""
        figure += f" ({diverged} diverged)" if diverged else ""
        lines.append(f"| {label} | {runs[0]['lr']:g} | {figure} | {bytes_a_weight(runs[0])} |")
    return "\n".join([*lines, "", provenance(result), ""])


def provenance(result: dict[str, Any]) -> str:
    """One sentence on data, machine, versions, seeds and command."""
    first = result["runs"][0]
    environment = first["environment"]
    seeds = sorted({run["seed"] for run in result["runs"]})
    kind = "one run each" if len(seeds) == 1 else f"mean and range over {len(seeds)} seeds"
    note = f" {result['note']}." if result["note"] else ""
    return (
        f"{kind.capitalize()}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}. "
        f"Data: {first['data']}.{note} Machine: {environment['processor']}, one thread a run; "
        f"torch {environment['torch']}, Python {environment['python']}. "
        f"First row: `{first['command']}`; all rows in `experiments/results/"
        f"{result['experiment']}.json`."
    )


def step_table() -> str:
    """Optimizer steps against AdamW's fused one."""
    result = json.loads((ROOT / "benchmarks" / "results" / "step.json").read_text())
    environment = result["environment"]
    lines = ["| one step | CPU time, ms | AdamW fused = 1 |", "|---|---:|---:|"]
    lines += [
        f"| {row['label']} | {row['ms']:.0f} | {row['ratio']:.1f} |" for row in result["rows"]
    ]
    lines += [
        "",
        f"{result['weights']:,} weights, {result['clock']}, {environment['processor']} (shared), "
        f"torch {environment['torch']}. `{result['command']}`",
        "",
    ]
    return "\n".join(lines)


def digits_line() -> str:
    """README's one figure."""
    rows = by_label(load("digits"))
    eight, adamw = rows["Madam 8 bits"], rows["AdamW"]
    ours = mean(run["metric"]["final"] for run in eight)
    theirs = mean(run["metric"]["final"] for run in adamw)
    held, baseline = (
        rows[0]["bytes"]["weights_per_weight"] + rows[0]["bytes"]["state_per_weight"]
        for rows in (eight, adamw)
    )
    return (
        f"**{100 * ours:.2f} % with {held:.2f} bytes a weight in training, weights and optimizer "
        f"state together; AdamW in float32 {100 * theirs:.2f} % with {baseline:.2f}** "
        f"(scikit-learn's digits, test accuracy, mean of {len(eight)} seeds).\n"
    )


TABLES = {
    "digits": lambda: table("digits", "test accuracy, %", 100, ".2f"),
    "digits-line": digits_line,
    "step": step_table,
    "fashion": lambda: table("fashion", "test error, %", 100, ".2f"),
    "wikitext": lambda: table("wikitext", "validation perplexity", 1, ".1f"),
}


def render(page: str) -> str:
    """A page with its tables made anew."""
    return BLOCK.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], page)


def main() -> int:
    """Rewrite or check all pages; the exit code."""
    stale = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        page = path.read_text()
        made = render(page)
        if made != page:
            stale.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(made)
    if stale:
        print(("out of date: " if "--check" in sys.argv else "written: ") + ", ".join(stale))
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
