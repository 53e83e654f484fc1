"""Without a GPU, Triton's interpreter runs the kernels on the CPU's tensors."""

import os

import torch

# Before the first import of triton: its functions are made then.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
