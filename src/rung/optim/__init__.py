"""Learning by multiplication: one pure update per algorithm, one shared loop."""

from rung.kernels.madam import madam_update, normalized_gradient
from rung.kernels.rung_moves import (
    bbit_madam_update,
    lns_madam_update,
    signed_madam_update,
)
from rung.optim._checkpoints import state_bytes
from rung.optim._lmd_rule import default_lr
from rung.optim.bbit_madam import BBitMadam
from rung.optim.lmd import LMD
from rung.optim.lns_madam import LNSMadam
from rung.optim.madam import Madam
from rung.optim.quantized_update import QuantizedUpdate
from rung.optim.signed_madam import SignedMadam
from rung.optim.split import ParameterSplit, init_zeros_, split_parameters

__all__ = [
    "LMD",
    "BBitMadam",
    "LNSMadam",
    "Madam",
    "ParameterSplit",
    "QuantizedUpdate",
    "SignedMadam",
    "bbit_madam_update",
    "default_lr",
    "init_zeros_",
    "lns_madam_update",
    "madam_update",
    "normalized_gradient",
    "signed_madam_update",
    "split_parameters",
    "state_bytes",
]
