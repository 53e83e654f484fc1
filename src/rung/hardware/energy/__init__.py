"""Energy of training and inference by a table of costs: a model, not a measurement."""

from rung.hardware.energy.architectures import MODELS, architecture
from rung.hardware.energy.cost_table import Cost, CostError, CostTable, load_costs
from rung.hardware.energy.counting import count
from rung.hardware.energy.counts import Counts, Elements, Work
from rung.hardware.energy.design import Design
from rung.hardware.energy.estimate import Band
from rung.hardware.energy.model import Energy, Entry, compare, energy
from rung.hardware.energy.units import Unit, unit_of

__all__ = [
    "MODELS",
    "Band",
    "Cost",
    "CostError",
    "CostTable",
    "Counts",
    "Design",
    "Elements",
    "Energy",
    "Entry",
    "Unit",
    "Work",
    "architecture",
    "compare",
    "count",
    "energy",
    "load_costs",
    "unit_of",
]
