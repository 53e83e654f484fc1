"""Arithmetic on plain tensors: formats, products, random bits, the optimizers' steps.

Every operation has a reference in PyTorch; loops for the CPU in `cpu`, kernels for GPUs in `gpu`.
"""

from rung.kernels.dispatch import Choice as Choice
from rung.kernels.dispatch import info as info
