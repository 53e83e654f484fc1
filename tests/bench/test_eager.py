"""What ours are measured against computes the same values."""

import pytest
import torch

from rung.bench import eager
from rung.formats import get


@pytest.fixture
def numbers():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 256, generator=generator)
    x[0, :40] = 0.0
    x[1] *= 1e-4
    return x


def test_the_composition_of_lns8_equals_ours_but_for_boundaries(numbers):
    ours, theirs = get("lns8+zero").quantize(numbers), eager.lns8(numbers)
    close = torch.isclose(ours, theirs, rtol=1e-6, atol=0.0)
    assert int((~close).sum()) <= 2
    assert torch.equal(theirs[0, :40], torch.zeros(40))
    assert torch.allclose(ours, theirs, rtol=0.1, atol=0.0)


def test_the_composition_of_mxfp6_equals_ours(numbers):
    assert torch.equal(get("mxfp6_e3m2").quantize(numbers), eager.mxfp6_e3m2(numbers))


def test_the_round_trip_is_e4m3s(numbers):
    inside = numbers.clamp(-448, 448)
    assert torch.equal(get("fp8_e4m3").quantize(inside, scale=1.0), eager.float8_round_trip(inside))
