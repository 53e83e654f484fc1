"""Reports: tables, figures and pages made from run folders, and from nothing else."""

from rung.report.comparison import compare, comparison_path
from rung.report.energy import energy_table, read_energy, write_energy_figure
from rung.report.page import write_report
from rung.report.reproduced import write_reproduced
from rung.report.rows import Row, SeedGroup, seed_groups
from rung.report.run import Run, read_run
from rung.report.sweep import write_sweep
from rung.report.sweep_data import Setting, Sweep, is_sweep, read_sweep
from rung.report.sweep_table import sweep_table
from rung.report.table import comparison_table

__all__ = [
    "Row",
    "Run",
    "SeedGroup",
    "Setting",
    "Sweep",
    "compare",
    "comparison_path",
    "comparison_table",
    "energy_table",
    "is_sweep",
    "read_energy",
    "read_run",
    "read_sweep",
    "seed_groups",
    "sweep_table",
    "write_energy_figure",
    "write_report",
    "write_reproduced",
    "write_sweep",
]
