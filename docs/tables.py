"""Write the docs' tables from the result files, so that no figure is typed by hand.

    python docs/tables.py            rewrite README.md and docs/*.md
    python docs/tables.py --check    exit 1 if any of them is out of date

A page holds ``<!-- table: NAME -->`` and ``<!-- end -->``; what is between them is replaced.
"""

import json
import re
import sys
from collections.abc import Callable
from statistics import mean

import bench_tables
import datapath_tables
import energy_tables
import format_tables
import lmd_tables
import one_byte_tables
import reproduce_tables
from result_files import (
    BENCHMARKS,
    RESULTS,
    ROOT,
    by_label,
    bytes_a_weight,
    load,
    measured,
    outcome,
    provenance,
)

BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


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


def step_table() -> str:
    """Optimizer steps against AdamW's fused one."""
    result = json.loads((BENCHMARKS / "step.json").read_text())
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
    result = json.loads((BENCHMARKS / "lns_step.json").read_text())
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


def datapath_speed() -> str:
    """The bit-true datapath beside matrix products of numbers."""
    result = json.loads((BENCHMARKS / "datapath.json").read_text())
    lines = [
        "| product | 10^9 multiply-accumulates a second | quartiles | outputs with overflows |",
        "|---|---:|---:|---:|",
    ]
    for row in result["rows"]:
        if "error" in row:
            lines.append(f"| {row['label']} | doesn't run here: {row['error']} | | |")
            continue
        low, high = row["quartiles"]
        share = row.get("outputs_with_overflows")
        shown = "" if share is None else f"{100 * share:.1f} %"
        speed = f"{row['gmac_per_second']:.3g} | {low:.3g} to {high:.3g}"
        lines.append(f"| {row['label']} | {speed} | {shown} |")
    size, environment = result["size"], result["environment"]
    note = (
        f"{size} x {size} x {size} unless said, LNS8 codes of Gaussian numbers, one thread, median "
        f"CPU time, {environment['processor']} (shared), torch {environment['torch']}. "
        f"`{result['command']}`"
    )
    return "\n".join([*lines, "", note, ""])


def first_step() -> str:
    """What a small model's first step waits for."""
    result = json.loads((BENCHMARKS / "first_step.json").read_text())
    lines = [
        "| first step, CPU seconds | store | forward and backward | step | in all | from disk |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        cold = row["cold"]
        parts = [cold["store"], cold["forward_backward"], cold["step"], cold["total"]]
        cells = [f"{seconds:.2f}" for seconds in (*parts, row["warm"]["total"])]
        lines.append(f"| {row['label']} | {' | '.join(cells)} |")
    environment = result["environment"]
    note = (
        "Two linear layers of width 64 with an empty cache of compiled loops; in all: with making "
        "the optimizer and every import but those of torch and Rung. From disk: all of it in a "
        f"later process. Medians of {result['repeats']}, one thread, {environment['processor']} "
        f"(shared), torch {environment['torch']}. `{result['command']}`"
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


TABLES: dict[str, Callable[[], str]] = {
    **bench_tables.TABLES,
    **datapath_tables.TABLES,
    **energy_tables.TABLES,
    **format_tables.TABLES,
    **lmd_tables.TABLES,
    **one_byte_tables.TABLES,
    **reproduce_tables.TABLES,
    "digits": lambda: table("digits", "test accuracy, %", 100, ".2f"),
    "digits-line": digits_line,
    "step": step_table,
    "first-step": measured(BENCHMARKS / "first_step.json", first_step),
    "fashion": lambda: table("fashion", "test error, %", 100, ".2f"),
    "wikitext": lambda: table("wikitext", "validation perplexity", 1, ".1f"),
    "datapath-speed": measured(BENCHMARKS / "datapath.json", datapath_speed),
    "lns-step": measured(BENCHMARKS / "lns_step.json", lns_step_table),
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
