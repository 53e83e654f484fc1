"""What a datapath's approximations cost: by enumeration, on normal numbers, on given data.

    from rung.hardware import analysis, datapath
    design = datapath.Datapath(conversion="hybrid", table_size=4, dropped_bits=12)
    analysis.conversion_error(design).worst
    analysis.dot_error(design, rung.formats.get("lns8"), lengths=[256])

Everything here is a function of its arguments: data is drawn from a seed or given.
"""

from rung.hardware._conversion_error import ConversionError, ProductError, conversion_error
from rung.hardware._dot_error import LENGTHS, DotError, dot_error, matmul_error
from rung.hardware._partial_sums import (
    Overflows,
    PartialSums,
    fewest_dropped_bits,
    overflows,
    partial_sums,
    smallest_accumulator,
)

__all__ = [
    "LENGTHS",
    "ConversionError",
    "DotError",
    "Overflows",
    "PartialSums",
    "ProductError",
    "conversion_error",
    "dot_error",
    "fewest_dropped_bits",
    "matmul_error",
    "overflows",
    "partial_sums",
    "smallest_accumulator",
]
