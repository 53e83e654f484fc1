"""Theory that runs: angles, descent bound, deep relative trust, quantization error of a step."""

from rung.theory.angles import angle
from rung.theory.bounds import descent_bound
from rung.theory.quantization_error import (
    additive_step,
    lost_share,
    multiplicative_step,
    quantization_error,
)
from rung.theory.trust import gradient_breakdown, trust_bound

__all__ = [
    "additive_step",
    "angle",
    "descent_bound",
    "gradient_breakdown",
    "lost_share",
    "multiplicative_step",
    "quantization_error",
    "trust_bound",
]
