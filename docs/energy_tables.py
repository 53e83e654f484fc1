"""Tables of experiments/energy.py and of the cost table."""

from collections.abc import Callable
from typing import Any

from result_files import load, measured

from rung.hardware.energy import load_costs
from rung.hardware.energy.cost_table import ROWS

_NAME = "energy-published"
_TITLES = {
    "resnet18": "ResNet-18, 224 x 224",
    "resnet50": "ResNet-50, 224 x 224",
    "bert-base": "BERT base, 128 tokens",
    "bert-large": "BERT large, 128 tokens",
    "gpt2-124m": "GPT-2 124 M, 1,024 tokens",
}


def published() -> str:
    """LNS8's savings of every model below the published ones."""
    result = load(_NAME)
    lines = [
        "| the datapath in LNS8 saves | against FP32, % | against FP8, % |",
        "|---|---:|---:|",
        f"| published | over {100 * result['published']['fp32']:.0f} "
        f"| over {100 * result['published']['fp8_e4m3']:.0f} |",
    ]
    lines += [f"| {_TITLES[row['model']]} | {_both(row)} |" for row in result["models"]]
    note = (
        f"Training steps of {result['batch']}, all three passes. In brackets the band of the cost "
        f"table. Published: {result['published']['source']}."
    )
    return "\n".join([*lines, "", f"{note} {_origin(result)}", ""])


def assumptions() -> str:
    """ResNet-50's savings under one other assumption at a time."""
    result = load(_NAME)
    lines = [
        "| ResNet-50: LNS8 saves | against FP32, % | against FP8, % |",
        "|---|---:|---:|",
    ]
    lines += [f"| {row['assumption']} | {_both(row)} |" for row in result["assumptions"]]
    return "\n".join([*lines, "", _origin(result), ""])


def formats() -> str:
    """A multiply-accumulate by part, a step and an inference, by format."""
    result = load(_NAME)
    lines = [
        "| ResNet-50 | multiply | conversion | accumulate | a multiply-accumulate, pJ (band) "
        "| training step, mJ an image | inference, mJ |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["formats"]:
        value, low, high = row["mac"]
        parts = " | ".join(f"{row[part]:.3g}" for part in ("multiply", "conversion", "accumulate"))
        lines.append(
            f"| {row['format']} | {parts} | {value:.3g} ({low:.2g} to {high:.2g}) "
            f"| {row['step_mj']:.0f} | {row['inference_mj']:.1f} |"
        )
    note = (
        f"Step and inference with all memory, in batches of {result['batch']}; the step with its "
        "update, LNS-Madam's for LNS8 and AdamW's for the others."
    )
    return "\n".join([*lines, "", f"{note} {_origin(result)}", ""])


def costs() -> str:
    """The rows of the cost table that comes with Rung."""
    lines = ["| row | operation | pJ | band | source |", "|---|---|---:|---:|---|"]
    for row, cost in load_costs().rows.items():
        band = f"{cost.low * cost.picojoules:.3g} to {cost.high * cost.picojoules:.3g}"
        lines.append(f"| `{row}` | {ROWS[row]} | {cost.picojoules:g} | {band} | {cost.source} |")
    return "\n".join([*lines, ""])


def _both(row: dict[str, Any]) -> str:
    return f"{_share(row['fp32'])} | {_share(row['fp8_e4m3'])}"


def _share(band: list[float]) -> str:
    value, low, high = (100 * share for share in band)
    return f"{value:.1f} ({low:.0f} to {high:.0f})"


def _origin(result: dict[str, Any]) -> str:
    return f"{result['what']} torch {result['environment']['torch']}. `{result['command']}`"


TABLES: dict[str, Callable[[], str]] = {
    "energy-published": measured(_NAME, published),
    "energy-assumptions": measured(_NAME, assumptions),
    "energy-formats": measured(_NAME, formats),
    "energy-costs": costs,
}
