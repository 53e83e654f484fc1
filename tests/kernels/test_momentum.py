"""A momentum's few-bit floats are those of the standards, and their roundings keep the mean."""

import pytest
import torch
from kernels.moments import paired

from rung.formats import get
from rung.kernels import momentum
from rung.kernels.philox import key_from_seed

KEY = torch.tensor(key_from_seed(3, "w"))
EVERY = torch.arange(256).to(torch.uint8)
NUMBERS = [code for code in range(256) if code & 0x7F != 0x7F]  # the rest is NaN
FOURS = torch.arange(16)
STORAGES = (torch.int8, torch.uint8, torch.bfloat16)


def stored(values, dtype, step=1):
    count = momentum.packed(values.numel()) if dtype == torch.int8 else values.numel()
    target = torch.empty(count, dtype=dtype)
    momentum.write(target, values, KEY, 0, step)
    return target


def read(stored, count=None):
    return momentum.read(stored, stored.numel() if count is None else count)


def every(dtype):
    """All numbers of a storage, flat."""
    if dtype == torch.uint8:
        return read(EVERY[NUMBERS])
    return momentum.read((FOURS | FOURS << 4).to(torch.uint8).view(torch.int8), 32)


def test_codes_stand_for_what_torch_says():
    theirs = EVERY[NUMBERS].view(torch.float8_e4m3fn).float()
    assert torch.equal(read(EVERY[NUMBERS]), theirs)


def test_four_bits_are_the_e2m1_of_the_mx_standard_over_four():
    magnitudes = every(torch.int8)[:8]
    e2m1 = get("fp4_e2m1")
    assert torch.equal(e2m1.quantize(4 * magnitudes), 4 * magnitudes)
    between = (magnitudes[1:] + magnitudes[:-1]) / 2
    assert not (e2m1.quantize(4 * between) == 4 * between).any()
    assert e2m1.largest == 4 * float(magnitudes[-1])


def test_byte_j_of_a_block_has_elements_j_and_16_plus_j():
    codes = torch.randint(0, 16, (64,), generator=torch.Generator().manual_seed(0))
    both = torch.zeros(32, dtype=torch.uint8)
    for block in range(2):
        for j in range(16):
            both[16 * block + j] = codes[32 * block + j] + 16 * codes[32 * block + 16 + j]
    expected = every(torch.int8)[:16][codes]
    assert torch.equal(momentum.read(both.view(torch.int8), 64), expected)
    for start, stop in ((0, 64), (32, 64), (32, 39), (0, 33)):
        part = momentum.part(both.view(torch.int8), start, stop)
        assert torch.equal(momentum.read(part, stop - start), expected[start:stop])


def test_what_fills_a_block_up_stays_zero():
    kept = stored(torch.full((37,), 0.3), torch.int8)
    assert kept.shape == (32,)
    assert not momentum.read(kept, 64)[37:].any()
    assert torch.equal(momentum.read(paired(37, 0), 64)[37:], torch.zeros(27))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_codes_numbers_are_kept(dtype):
    values = every(dtype)
    for step in range(1, 20):
        assert torch.equal(read(stored(values, dtype, step), values.numel()), values)


@pytest.mark.parametrize("value", [0.3, -0.3, 1e-3, -3e-3, 0.015, 1.2, 7.9, -440.0])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16])
def test_rounding_takes_one_of_two_neighbours_and_keeps_the_mean(value, dtype):
    assert_unbiased(value, dtype)


@pytest.mark.parametrize("value", [0.3, -0.3, 1e-3, -3e-3, 0.015, 1.2, -1.49])
def test_rounding_to_four_bits_keeps_the_mean(value):
    assert_unbiased(value, torch.int8)


def assert_unbiased(value, dtype):
    n = 64_000
    rounded = read(stored(torch.full((n,), value), dtype), n).double()
    seen = rounded.unique()
    assert len(seen) <= 2
    assert float(seen.min()) <= value <= float(seen.max())
    if dtype != torch.bfloat16:
        grid = every(dtype).double().unique()
        place = int(torch.searchsorted(grid, value))
        assert set(seen.tolist()) <= {float(grid[place - 1]), float(grid[place])}
    # 32 neighbours share a draw: of 2,000 means of uniforms over a 32nd of the spacing each.
    spacing = float(seen.max() - seen.min())
    assert abs(float(rounded.mean()) - value) <= 4 * spacing / 32 / 2000**0.5 + 1e-9


def test_large_numbers_saturate():
    codes = stored(torch.tensor([448.0, 1e4, -1e30, 0.0, -0.0]), torch.uint8)
    assert codes.view(torch.float8_e4m3fn).float().tolist() == [448, 448, -448, 0, 0]
    pairs = stored(torch.tensor([1.5, 1.6, -1e30, 0.0, -0.0]), torch.int8)
    assert read(pairs, 5).tolist() == [1.5, 1.5, -1.5, 0, 0]


@pytest.mark.parametrize("dtype", [*STORAGES, torch.float32])
def test_a_momentum_follows_its_mean_and_forgets(dtype):
    n, numbers = 3200, torch.tensor([0.999, 8.0, 0.0, 0.99], dtype=torch.float64)
    normal, clip = torch.tensor(1.0), torch.tensor(8.0)
    kept = stored(torch.zeros(n), dtype)
    for step in range(1, 601):
        u = torch.full((n,), 0.7 if step <= 300 else 0.0)
        new = momentum.next_momentum(u, read(kept, n), normal, clip, numbers)
        momentum.write(kept, new, KEY, 0, step)
        if step == 300:
            high = float(read(kept, n).mean())
    expected = 0.7 * (1 - 0.99**300)
    assert high == pytest.approx(expected, rel=0.01)
    # Rounded to nearest, 8 bits would never fall under a spacing that 1 % of it can't cross.
    assert float(read(kept, n).mean()) == pytest.approx(expected * 0.99**300, rel=0.1)


def test_a_gradient_that_is_not_a_number_counts_as_much_as_anything_may():
    numbers = torch.tensor([0.999, 8.0, 0.0, 0.5], dtype=torch.float64)
    bad = torch.tensor([float("nan"), float("inf"), -float("inf")])
    one, clip = torch.tensor(1.0), torch.tensor(8.0)
    assert momentum.next_momentum(bad, torch.zeros(3), one, clip, numbers).tolist() == [4, 4, -4]
