"""The finite check on a GPU against its reference."""

import pytest
import torch
from kernels.gpu.samples import DEVICE

from rung.kernels import finite
from rung.kernels.gpu.finite import CHUNK, all_finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    "bad", [None, float("nan"), float("inf"), -float("inf"), 1e20, 2.0**63, -(2.0**63)]
)
def test_any_gradient_that_is_not_finite_is_seen(dtype, bad):
    for count, place in ((1, 0), (17, 16), (CHUNK + 3, CHUNK + 2), (2 * CHUNK, CHUNK)):
        grads = [torch.ones(3, dtype=dtype, device=DEVICE), torch.empty(0, device=DEVICE)]
        grads.append(torch.full((count,), -1.0, dtype=dtype, device=DEVICE))
        if bad is not None:
            grads[2][place] = bad
        expected = bool(all((g.double().abs() <= 2.0**63).all() for g in grads))
        assert bool(all_finite(grads)) == expected
        assert bool(finite.reference(grads)) == expected
        grads[2] = grads[2].repeat(2)[::2]
        assert bool(all_finite(grads)) == expected


def test_gradients_of_several_dtypes_are_looked_at_together():
    grads = [torch.ones(20, dtype=torch.bfloat16, device=DEVICE), torch.ones(7, device=DEVICE)]
    found = all_finite(grads)
    assert found.dtype == torch.bool
    assert found.shape == ()
    assert bool(found)
    grads[0][3] = torch.inf
    assert not bool(all_finite(grads))
