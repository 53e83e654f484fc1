"""What all tests begin with: kernels that run here, and the same random numbers."""

import os

import pytest
import torch

# Without a GPU, Triton's interpreter runs the kernels on the CPU's tensors. Its functions are made
# at the first import of triton, so before that.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def same_random_numbers():
    """A test that fails can be repeated, alone too: the docs' examples don't seed."""
    torch.manual_seed(0)
