"""Theory that runs: angles, bounds, quantization error of a step, calibration, normality."""

from rung.theory.angles import angle
from rung.theory.bounds import descent_bound
from rung.theory.calibration import (
    ReliabilityBin,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from rung.theory.lognormal import lognormal_process, stationary_std
from rung.theory.normality import NormalFit, normal_fit
from rung.theory.quantization_error import (
    additive_step,
    lost_share,
    multiplicative_step,
    quantization_error,
)
from rung.theory.trust import gradient_breakdown, trust_bound

__all__ = [
    "NormalFit",
    "ReliabilityBin",
    "additive_step",
    "angle",
    "descent_bound",
    "expected_calibration_error",
    "gradient_breakdown",
    "lognormal_process",
    "lost_share",
    "multiplicative_step",
    "negative_log_likelihood",
    "normal_fit",
    "quantization_error",
    "reliability",
    "stationary_std",
    "trust_bound",
]
