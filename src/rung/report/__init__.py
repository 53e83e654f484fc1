"""Reports: tables, figures and pages made from run folders, and from nothing else."""

from rung.report.comparison import compare, comparison_path
from rung.report.page import write_report
from rung.report.rows import Row, SeedGroup, seed_groups
from rung.report.run import Run, read_run
from rung.report.table import comparison_table

__all__ = [
    "Row",
    "Run",
    "SeedGroup",
    "compare",
    "comparison_path",
    "comparison_table",
    "read_run",
    "seed_groups",
    "write_report",
]
