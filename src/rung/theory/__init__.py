"""Theory that runs: angles, the descent bound of Theorem 1, and deep relative trust."""

from rung.theory.angles import angle
from rung.theory.bounds import descent_bound
from rung.theory.trust import gradient_breakdown, trust_bound

__all__ = [
    "angle",
    "descent_bound",
    "gradient_breakdown",
    "trust_bound",
]
