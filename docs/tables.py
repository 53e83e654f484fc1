"""Write the docs' tables from the result files, so that no figure is typed by hand.

    python docs/tables.py            rewrite README.md and docs/*.md
    python docs/tables.py --check    exit 1 if any of them is out of date

A page holds ``<!-- table: NAME -->`` and ``<!-- end -->``; what is between them is replaced.
"""

import json
import re
import sys
from collections.abc import Callable
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


def outcome(runs: list[dict[str, Any]], factor: float, form: str) -> str:
    """Final metric of a row's runs, and how many diverged."""
    diverged = sum(run["status"] != "finished" for run in runs)
    values = [factor * run["metric"]["final"] for run in runs if run["status"] == "finished"]
    figure = spread(values, form) if values else ""
    return (figure + (f" ({diverged} diverged)" if diverged else "")).strip()


def table(name: str, heading: str, factor: float, form: str) -> str:
    """Rows of label, metric, bytes; below them what was run, where and how."""
    result = load(name)
    lines = [
        f"| optimizer, weights | lr | {heading} | bytes a weight: weights + state |",
        "|---|---:|---:|---:|",
    ]
    for label, runs in by_label(result).items():
        figure = outcome(runs, factor, form)
        lines.append(f"| {label} | {runs[0]['lr']:g} | {figure} | {bytes_a_weight(runs[0])} |")
    return "\n".join([*lines, "", provenance(result), ""])


def measured(source: str | Path, make: Callable[[], str]) -> Callable[[], str]:
    """A table that says so where its result file, or the file of its name, isn't there yet."""
    path = source if isinstance(source, Path) else RESULTS / f"{source}.json"
    return lambda: make() if path.exists() else "(not yet measured)\n"


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


def update_bits(name: str, heading: str) -> str:
    """Optimizers by bits of the update, in %."""
    result = load(name)
    rows = by_label(result)
    widths = [("float32", "float32")]
    for rounding in ("nearest", "stochastic"):
        for bits in (16, 14, 12, 10, 8):
            if f"SGD {bits} bits, {rounding}" in rows:
                short = "" if rounding == "nearest" else ", stochastic"
                widths.append((f"{bits}{short}", f"{bits} bits, {rounding}"))
    lines = [
        f"| {heading}, bits of the update | " + " | ".join(title for title, _ in widths) + " |",
        "|---|" + "---:|" * len(widths),
    ]
    for optimizer in ("SGD", "Adam", "AdamW", "LNS-Madam"):
        cells = []
        for _, key in widths:
            float_madam = optimizer == "LNS-Madam" and key == "float32"
            runs = rows.get(f"{'Madam' if float_madam else optimizer} {key}", [])
            cells.append(outcome(runs, 100, ".2f"))
        lines.append(f"| {optimizer} | " + " | ".join(cells) + " |")
    note = "The first column of LNS-Madam is Madam in float32. Products in float32 throughout."
    return "\n".join([*lines, "", f"{note} {provenance(result)}", ""])


def product_bits() -> str:
    """Bits by base factor where both passes are alike, then every other row."""
    result = load("product-bits")
    rows = by_label(result)
    factors = (1, 2, 4, 8, 16, 32)
    lines = [
        "| test accuracy, %; bits | " + " | ".join(f"base factor {f}" for f in factors) + " |",
        "|---|" + "---:|" * len(factors),
    ]
    for bits in (8, 7, 6, 5, 4):
        found = [rows.pop(f"{bits} bits, base factor {factor}", []) for factor in factors]
        lines.append(
            f"| {bits} | " + " | ".join(outcome(runs, 100, ".2f") for runs in found) + " |"
        )
    lines += ["", "| otherwise | test accuracy, % |", "|---|---:|"]
    lines += [f"| {label} | {outcome(runs, 100, '.2f')} |" for label, runs in rows.items()]
    return "\n".join([*lines, "", provenance(result), ""])


def lns_wikitext() -> str:
    """The run in LNS below the float32 ones of the same tokens."""
    result, float32 = load("lns-wikitext"), by_label(load("wikitext"))
    rows = {label: float32[label] for label in ("AdamW", "Madam float32")} | by_label(result)
    base = mean(run["metric"]["final"] for run in float32["Madam float32"])
    lines = [
        "| optimizer, numbers | validation perplexity | against Madam float32 |",
        "|---|---:|---:|",
    ]
    for label, runs in rows.items():
        ended = [run["metric"]["final"] for run in runs if run["status"] == "finished"]
        against = f"{100 * (mean(ended) / base - 1):+.1f} %" if ended else ""
        lines.append(f"| {label} | {outcome(runs, 1, '.1f')} | {against} |")
    note = "The float32 rows are those of `experiments/results/wikitext.json`."
    return "\n".join([*lines, "", f"{note} {provenance(result)}", ""])


def lns_bounds() -> str:
    """What the named formats can hold."""
    from rung.formats import LNS, get, names

    lines = [
        "| format | base factor | octaves | with a zero | codes | worst relative error |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for name in [*(name for name in names() if name.startswith("lns")), "lns8_b4"]:
        fmt = get(name)
        assert isinstance(fmt, LNS)
        dtype = str(fmt.code_dtype).removeprefix("torch.")
        lines.append(
            f"| `{name}` | {fmt.base_factor} | {fmt.octaves:.2f} | {fmt.with_zero().octaves:.2f} "
            f"| {dtype} | {100 * fmt.max_relative_error:.3g} % |"
        )
    return "\n".join([*lines, ""])


def quantization_error() -> str:
    """Median share of one step that rounding loses, at three magnitudes and lr 2^-7."""
    result = json.loads((RESULTS / "quantization-error.json").read_text())
    places = [result["log2_weight"].index(exponent) for exponent in (-7.75, -3.75, -0.25)]
    lines = [
        "| grid | rule | bits | median share lost, abs(W) = 2^-7.75 | 2^-3.75 | 2^-0.25 "
        "| largest error, octaves |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        if row["lr"] == 2**-7 and row["bits"] in (10, 12, 16):
            shares = [row["share"][place] for place in places]
            cells = [f"{100 * share:.3g} %" if share is not None else "" for share in shares]
            lines.append(
                f"| {row['grid']} | {row['rule']} | {row['bits']} | {' | '.join(cells)} "
                f"| {row['worst']:.3g} |"
            )
    note = (
        f"lr 2^-7, {result['draws']:,} gradients from NORMAL(0, 1) for every half octave of "
        "abs(W). The largest error is that of all steps that end inside the grid's range, at any "
        f"abs(W). torch {result['environment']['torch']}. `{result['command']}`"
    )
    return "\n".join([*lines, "", note, ""])


def lns_step_table() -> str:
    """Training steps in LNS8 against float32 ones, and what rounding costs by itself."""
    result = json.loads((ROOT / "benchmarks" / "results" / "lns_step.json").read_text())
    totals = {row["label"]: row["total"] for row in result["rows"]}
    lines = [
        "| one step, CPU time in ms | forward | backward | update | total | against float32 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        rule = "AdamW fused" if "AdamW" in row["label"] else "Madam float32"
        ratio = row["total"] / totals[f"float32, {rule}"]
        parts = " | ".join(f"{row[part]:.0f}" for part in ("forward", "backward", "update"))
        lines.append(f"| {row['label']} | {parts} | {row['total']:.0f} | {ratio:.2f} |")
    lines += ["", "| rounding by itself | ns an element |", "|---|---:|"]
    lines += [f"| {row['label']} | {row['ns_per_element']:.2f} |" for row in result["quantizers"]]
    environment = result["environment"]
    note = (
        "Two-layer transformer of 13.8 million weights, one thread, median, "
        f"{environment['processor']} (shared), torch {environment['torch']}. The last column "
        f"compares with the same optimizer, LNS-Madam with Madam. `{result['command']}`"
    )
    return "\n".join([*lines, "", note, ""])


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
    "lns-bounds": lns_bounds,
    "lns-step": measured(ROOT / "benchmarks" / "results" / "lns_step.json", lns_step_table),
    "lns-digits": measured(
        "lns-digits", lambda: table("lns-digits", "test accuracy, %", 100, ".2f")
    ),
    "lns-wikitext": measured("lns-wikitext", lns_wikitext),
    "product-bits": measured("product-bits", product_bits),
    "quantization-error": quantization_error,
    "update-bits-digits": measured(
        "update-bits-digits", lambda: update_bits("update-bits-digits", "test accuracy, %")
    ),
    "update-bits-fashion": measured(
        "update-bits-fashion", lambda: update_bits("update-bits-fashion", "test error, %")
    ),
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
