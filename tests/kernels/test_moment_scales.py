"""Scales of moments in log codes on the CPU: largest magnitudes and the next scales."""

import numpy as np
import pytest
import torch

from rung.kernels.cpu import finite, moments
from rung.kernels.moment import next_log8_scale

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("sizes", [(1,), (130, 7, 128), (200_000, 1, 131_072, 300_000)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.uint8])
def test_the_largest_magnitude_of_each_tensor_is_found_wherever_it_is(dtype, sizes):
    generator = torch.Generator().manual_seed(len(sizes))
    for place in (0, 0.5, 1):
        if dtype == torch.uint8:
            tensors = [torch.randint(200, (n,), generator=generator).to(dtype) for n in sizes]
            peak = 250
        else:
            tensors = [torch.randn(n, generator=generator).to(dtype) for n in sizes]
            peak = -9.5
        for k, tensor in enumerate(tensors):
            tensor[int(place * (tensor.numel() - 1))] = peak + k % 2
        found = finite.largest(tensors).tolist()
        bits = {torch.float32: torch.int32, torch.uint8: torch.uint8}.get(dtype, torch.int16)
        assert found == [int(t.abs().max().view(bits)) for t in tensors]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_is_above_all_magnitudes(dtype):
    tensors = [torch.tensor([1.0, -INF, bad, 2.0] * 40).to(dtype) for bad in (0.0, NAN, -NAN)]
    bits = torch.from_numpy(finite.largest(tensors))
    values = (bits << 16 if dtype == torch.bfloat16 else bits).view(torch.float32)
    assert values[0] == INF
    assert bool(values[1:].isnan().all())


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.99, 0.999])
def test_next_scales_are_those_of_the_reference(beta):
    generator = torch.Generator().manual_seed(0)
    codes = torch.arange(256).repeat(40)
    n = codes.numel()
    old = torch.exp2(torch.randint(-126, 60, (n,), generator=generator).float())
    largest = torch.exp2(160 * torch.rand(n, generator=generator) - 100)
    largest[:8] = torch.tensor([0.0, INF, NAN, 1.0, 2.0**63, 2.0**-75, 1e-30, 2.0**-149])
    kept, rest = (torch.tensor(x).to(torch.float32) for x in (beta, 1 - beta))
    expected = next_log8_scale(codes.to(torch.uint8), old, largest, kept, rest)
    found = moments.next_scales(codes.int().numpy(), old.numpy(), largest.numpy(), beta)
    np.testing.assert_array_equal(found, expected.numpy())
