"""Tables and figures of `rung reproduce`, from the results files that it wrote.

A file is copied as it is: ``cp reproduce/cpu/NAME.json experiments/results/reproduce/``.
"""

import json
from collections.abc import Callable
from typing import Any

from result_files import RESULTS, measured

from rung.report import reproduced_figure, reproduced_table
from rung.reproduce import NAMES

FOLDER = RESULTS / "reproduce"


def results(name: str) -> dict[str, Any]:
    """One results file."""
    record: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return record


def _table(name: str) -> Callable[[], str]:
    return measured(FOLDER / f"{name}.json", lambda: reproduced_table.table(results(name)) + "\n")


TABLES = {f"reproduce-{name}": _table(name) for name in NAMES}


def figures() -> dict[str, Callable[[], Any]]:
    """What can be drawn of the results that are there."""
    there = [name for name in NAMES if (FOLDER / f"{name}.json").exists()]
    drawn = {name: results(name) for name in there if results(name)["kind"] != "energy"}
    return {
        f"reproduce-{name}": lambda record=record: reproduced_figure.draw(record)
        for name, record in drawn.items()
    }
