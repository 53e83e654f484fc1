"""Rung: neural networks whose weights live on a logarithmic ladder and move by multiplication."""

from rung import formats as formats
from rung import nn as nn
from rung import optim as optim
from rung import tensor as tensor
from rung._version import __version__ as __version__
from rung.tensor import store_weights_ as store_weights_

__all__ = [
    "__version__",
    "formats",
    "nn",
    "optim",
    "store_weights_",
    "tensor",
]
