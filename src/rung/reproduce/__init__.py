"""The papers' tables and figures, run again end to end: ``rung reproduce NAME``.

from pathlib import Path
from rung.reproduce import CONTESTS, Setup, run_contest
setup = Setup(budget="cpu", data={"cifar10": Path("cifar-10-batches-py")})
run_contest(CONTESTS["madam-table1"], setup, "reproduce", jobs=2)
"""

from rung.reproduce.contest import BUDGETS, DATA, Budget, Contest, Contestant, Row, Size
from rung.reproduce.lmd_precision import LMD_PRECISION
from rung.reproduce.lns_bits import LNS_BITS
from rung.reproduce.lns_energy import ENERGY, energy_results
from rung.reproduce.madam_better import BETTER
from rung.reproduce.madam_figure import FIGURE_1
from rung.reproduce.madam_tables import TABLE_1, TABLE_2
from rung.reproduce.one_byte import ONE_BYTE
from rung.reproduce.one_byte_held_out import ONE_BYTE_HELD_OUT
from rung.reproduce.one_byte_why import ONE_BYTE_WHY
from rung.reproduce.runs import run_contest
from rung.reproduce.trials import Setup

CONTESTS: dict[str, Contest] = {
    contest.name: contest
    for contest in (
        TABLE_1,
        TABLE_2,
        FIGURE_1,
        BETTER,
        LNS_BITS,
        LMD_PRECISION,
        ONE_BYTE,
        ONE_BYTE_HELD_OUT,
        ONE_BYTE_WHY,
    )  # fmt: skip
}
"""Experiments that train, by name."""

NAMES = (*CONTESTS, ENERGY)
"""What ``rung reproduce`` takes."""

__all__ = [
    "BUDGETS",
    "CONTESTS",
    "DATA",
    "ENERGY",
    "NAMES",
    "Budget",
    "Contest",
    "Contestant",
    "Row",
    "Setup",
    "Size",
    "energy_results",
    "run_contest",
]
