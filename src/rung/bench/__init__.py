"""Measurements: rows of ours against theirs, in one process and in turns."""

from rung.bench.catalog import rows_of
from rung.bench.run import run
from rung.bench.setting import Setting

__all__ = ["Setting", "rows_of", "run"]
