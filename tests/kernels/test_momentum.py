"""A momentum's 8-bit floats are torch's, and its roundings keep the mean."""

import pytest
import torch

from rung.kernels import momentum
from rung.kernels.philox import key_from_seed

KEY = torch.tensor(key_from_seed(3, "w"))
EVERY = torch.arange(256).to(torch.uint8)
NUMBERS = [code for code in range(256) if code & 0x7F != 0x7F]  # the rest is NaN


def stored(values, dtype, step=1):
    target = torch.empty(values.shape, dtype=dtype)
    momentum.write(target, values, KEY, 0, step)
    return target


def test_codes_stand_for_what_torch_says():
    theirs = EVERY[NUMBERS].view(torch.float8_e4m3fn).float()
    assert torch.equal(momentum.read(EVERY[NUMBERS]), theirs)


def test_codes_numbers_are_kept():
    values = momentum.read(EVERY[NUMBERS])
    for step in range(1, 20):
        kept = stored(values, torch.uint8, step)
        assert torch.equal(momentum.read(kept), values)


@pytest.mark.parametrize("value", [0.3, -0.3, 1e-3, -3e-3, 0.015, 7.9, -440.0])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16])
def test_rounding_takes_one_of_two_neighbours_and_keeps_the_mean(value, dtype):
    n = 64_000
    rounded = momentum.read(stored(torch.full((n,), value), dtype)).double()
    seen = rounded.unique()
    assert len(seen) <= 2
    assert float(seen.min()) <= value <= float(seen.max())
    if dtype == torch.uint8:
        grid = momentum.read(EVERY[NUMBERS]).double().unique()
        place = int(torch.searchsorted(grid, value))
        assert set(seen.tolist()) <= {float(grid[place - 1]), float(grid[place])}
    # 32 neighbours share a draw: of 2,000 means of uniforms over a 32nd of the spacing each.
    spacing = float(seen.max() - seen.min())
    assert abs(float(rounded.mean()) - value) <= 4 * spacing / 32 / 2000**0.5 + 1e-9


def test_large_numbers_saturate():
    codes = stored(torch.tensor([448.0, 1e4, -1e30, 0.0, -0.0]), torch.uint8)
    assert codes.view(torch.float8_e4m3fn).float().tolist() == [448, 448, -448, 0, 0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
def test_a_momentum_follows_its_mean_and_forgets(dtype):
    n, numbers = 3200, torch.tensor([0.999, 8.0, 0.0, 0.99], dtype=torch.float64)
    normal, clip = torch.tensor(1.0), torch.tensor(8.0)
    kept = torch.zeros(n, dtype=dtype)
    for step in range(1, 601):
        u = torch.full((n,), 0.7 if step <= 300 else 0.0)
        new = momentum.next_momentum(u, momentum.read(kept), normal, clip, numbers)
        momentum.write(kept, new, KEY, 0, step)
        if step == 300:
            high = float(momentum.read(kept).mean())
    expected = 0.7 * (1 - 0.99**300)
    assert high == pytest.approx(expected, rel=0.01)
    # Rounded to nearest, 8 bits would never fall under a spacing that 1 % of it can't cross.
    assert float(momentum.read(kept).mean()) == pytest.approx(expected * 0.99**300, rel=0.1)


def test_a_gradient_that_is_not_a_number_counts_as_much_as_anything_may():
    numbers = torch.tensor([0.999, 8.0, 0.0, 0.5], dtype=torch.float64)
    bad = torch.tensor([float("nan"), float("inf"), -float("inf")])
    one, clip = torch.tensor(1.0), torch.tensor(8.0)
    assert momentum.next_momentum(bad, torch.zeros(3), one, clip, numbers).tolist() == [4, 4, -4]
