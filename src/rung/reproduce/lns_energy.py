"""The energy of LNS8 beside the savings that Zhao et al. 2021 publish: counted, not trained."""

from pathlib import Path
from typing import Any

from rung.hardware.energy import architecture, compare, count
from rung.reproduce.contest import Budget
from rung.reproduce.records import FORMAT_VERSION, hidden_call
from rung.reproduce.trials import Setup
from rung.train.environment import environment
from rung.train.files import write_json

ENERGY = "lns-madam-energy"
MODELS = ("resnet18", "resnet50", "bert-base", "bert-large", "gpt2-124m")
_BATCH = 32
_AGAINST = ("fp32", "fp16", "fp8_e4m3", "int8")
PUBLISHED = {"fp32": "over 90", "fp8_e4m3": "over 55"}


def energy_results(budget: Budget, out: str | Path, command: str = "") -> dict[str, Any]:
    """Count the models on the meta device and write ``OUT/BUDGET/lns-madam-energy.json``.

    Args:
        budget: ``smoke`` counts the first model only; the others are one.
        out: Folder for all experiments.
        command: The command line, for the record.

    Returns:
        Content of the file: for each model and format the share of the energy of a training step's
        products that LNS8 saves, with the band of the cost table.
    """
    names = MODELS[:1] if budget == "smoke" else MODELS
    record = {
        "format_version": FORMAT_VERSION,
        "name": ENERGY,
        "title": "Energy of a training step's products: what LNS8 saves",
        "source": "Zhao et al. 2021, LNS-Madam, arXiv:2106.13914, abstract",
        "kind": "energy",
        "budget": budget,
        "command": hidden_call(command, Setup(budget=budget, data={})),
        "environment": environment(),
        "batch": _BATCH,
        "published": PUBLISHED,
        "rows": [_row(name) for name in names],
    }
    folder = Path(out) / budget
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{ENERGY}.json", record)
    return record


def _row(name: str) -> dict[str, Any]:
    found = compare(count(*architecture(name, _BATCH)), ["lns8", *_AGAINST])
    ours = found["lns8"].datapath
    return {
        "model": name,
        "savings": {
            other: [round(share, 4) for share in ours.saving(found[other].datapath)]
            for other in _AGAINST
        },
    }
