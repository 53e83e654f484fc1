"""Tables of experiments/datapath_accuracy.py."""

from collections.abc import Callable
from statistics import mean
from typing import Any

from result_files import Run, load, measured

_BESIDE = ("as trained", "wide lut")
_CONSTANTS = {"lut": "8", "hybrid 4": "4", "hybrid 2": "2", "mitchell": "none"}


def accuracy() -> str:
    """Every network: conversions and spare bits by accumulator width."""
    result = load("datapath-accuracy")
    networks = list(dict.fromkeys(run["network"] for run in result["runs"]))
    parts = [_network(result, name) for name in networks]
    return "\n".join([*parts, _origin(result, result["runs"][0]), ""])


def _network(result: dict[str, Any], name: str) -> str:
    runs = [run for run in result["runs"] if run["network"] == name]
    seeds = sorted({run["seed"] for run in runs})
    widths = sorted({run["datapath"]["accumulator_bits"] for run in runs if run["spare"]} | {24})
    titles = " | ".join(f"{width} bits" for width in widths)
    lines = [
        f"| {name}: conversion | constants | bits above one product | {titles} "
        "| outputs with an overflow |",
        "|---|---:|---:|" + "---:|" * (len(widths) + 1),
    ]
    for label, constants in _CONSTANTS.items():
        for spare in sorted({run["spare"] for run in runs}):
            row = [run for run in runs if run["label"] == label and run["spare"] == spare]
            if row:
                by_width = [[r for r in row if r["accumulator_bits"] == w] for w in widths]
                cells = " | ".join(map(_cell, by_width))
                lines.append(f"| {label} | {constants} | {spare} | {cells} | {_overflowed(row)} |")
    plain, wide = ([run for run in runs if run["label"] == label] for label in _BESIDE)
    kind = "one network" if len(seeds) == 1 else f"mean of {len(seeds)} networks"
    command = result["networks"][f"{name}, seed {seeds[0]}"]["command"]
    note = (
        f"Test accuracy in % and loss in nats on {runs[0]['images']:,} images, {kind}. "
        f"Sums in float32: {_cell(plain)}; exact sums of lut: {_cell(wide)}. First network: "
        f"`{command}`."
    )
    return "\n".join([*lines, "", note, ""])


def _cell(runs: list[Run]) -> str:
    if not runs:
        return ""
    share, loss = (mean(run[key] for run in runs) for key in ("accuracy", "loss"))
    return f"{100 * share:.2f} ({loss:.3f})"


def _overflowed(runs: list[Run]) -> str:
    shares = [run["overflowed"] for run in runs if "overflowed" in run]
    return f"{100 * mean(shares):.2g} %" if shares else ""


def aware() -> str:
    """Networks trained through a datapath beside those that weren't."""
    result = load("datapath-aware")
    rows: dict[tuple[str, str, int, int], list[Run]] = {}
    for run in result["runs"]:
        key = (run["network"], run["label"], run["accumulator_bits"], run["spare"])
        rows.setdefault(key, []).append(run)
    lines = [
        "| network | conversion | accumulators | bits above one product | networks | trained "
        "without, evaluated without | trained without, evaluated through | trained through, "
        "evaluated through |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (network, label, width, spare), runs in rows.items():
        pairs = [[run for run in runs if run["trained_through"] is each] for each in (False, True)]
        # A seed counts where it has both.
        both = {run["seed"] for run in pairs[0]} & {run["seed"] for run in pairs[1]}
        plain, through = ([run for run in pair if run["seed"] in both] for pair in pairs)
        if both:
            before = f"{100 * mean(run['without_datapath'] for run in plain):.2f}"
            lines.append(
                f"| {network} | {label} | {width} bits | {spare} | {len(both)} | {before} "
                f"| {_cell(plain)} | {_cell(through)} |"
            )
    commands = "; ".join(f"`{facts['command']}`" for facts in _first_seeds(result["networks"]))
    note = (
        "Test accuracy in % (loss in nats), means over as many seeds as there are networks. "
        "digits-cnn is trained from the start, fashion-resnet18 for 30 steps of SGD at lr 0.01 "
        f"after its training, both ways alike. Trained without: {commands}."
    )
    return "\n".join([*lines, "", f"{note} {_origin(result, result['runs'][0])}", ""])


def _first_seeds(networks: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [facts for name, facts in networks.items() if name.endswith("seed 0")]


def _origin(result: dict[str, Any], first: Run) -> str:
    environment = result["environment"]
    bits = first["datapath"]["fraction_bits"] if first["datapath"] else 8
    note = f" {result['note']}." if result["note"] else ""
    return (
        f"Codes of `{result['format']}`, constants of {bits} fraction bits, saturating bins.{note} "
        f"Machine: {environment['processor']}, one thread; torch {environment['torch']}, Python "
        f"{environment['python']}. `{result['command']}`; all rows in `experiments/results/"
        f"{result['experiment']}.json`."
    )


TABLES: dict[str, Callable[[], str]] = {
    "datapath-accuracy": measured("datapath-accuracy", accuracy),
    "datapath-aware": measured("datapath-aware", aware),
}
