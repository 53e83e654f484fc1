"""Tensors for the GPU's kernels, on a GPU where there is one."""

import pytest
import torch

triton = pytest.importorskip("triton", reason="the GPU's kernels need triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

if DEVICE.type == "cpu" and isinstance(triton.language.interleave, triton.runtime.JITFunction):
    pytest.skip(
        "Triton was imported before its interpreter could be switched on: run with "
        "TRITON_INTERPRET=1",
        allow_module_level=True,
    )


def on_device(*lists):
    return tuple([t.to(DEVICE) for t in tensors] for tensors in lists)


def assert_same(ours, theirs):
    """The same tensors to the last bit; NaN is NaN."""
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)
        if left.is_floating_point():  # -0 is not +0
            negative = torch.signbit(left) == torch.signbit(right)
            assert bool((negative | torch.isnan(left)).all())
