import torch

from rung.kernels.moment import decode_log8, log8_scale, round_bfloat16, round_log8

KEY = torch.tensor(17)


def test_bfloat16_values_stay_as_they_are():
    values = torch.tensor([0.0, 1.0, 2.0**-30, 3.140625])
    for step in range(20):
        assert torch.equal(round_bfloat16(values, KEY, 0, step).float(), values)


def test_bfloat16_rounds_to_a_neighbour_and_keeps_the_mean():
    value, n = 1 + 0.3 * 2**-7, 100_000
    rounded = round_bfloat16(torch.full((n,), value), KEY, 0, 1).double()
    assert set(rounded.tolist()) == {1.0, 1 + 2.0**-7}
    share = float((rounded > 1).double().mean())
    assert abs(share - 0.3) < 3 * (0.3 * 0.7 / n) ** 0.5


def test_bfloat16_draws_do_not_depend_on_slices():
    values = torch.rand(1001, generator=torch.Generator().manual_seed(0))
    whole = round_bfloat16(values, KEY, 0, 5)
    parts = [round_bfloat16(values[i : i + 77], KEY, i, 5) for i in range(0, 1001, 77)]
    assert torch.equal(torch.cat(parts), whole)


def test_every_log8_code_comes_back():
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    for scale in (2.0**-100, 1.0, 2.0**30):
        values = decode_log8(codes, torch.tensor(scale))
        assert values[0] == 0
        assert bool((values[1:].diff() > 0).all())
        assert torch.equal(round_log8(values, torch.tensor(scale), KEY, 0, 1), codes)


def test_log8_keeps_the_mean_and_hits_only_neighbours():
    low, high, n = (
        decode_log8(torch.tensor([200, 201], dtype=torch.uint8), torch.tensor(1.0)),
        0.3,
        100_000,
    )
    value = float(low[0] + high * (low[1] - low[0]))
    codes = round_log8(torch.full((n,), value), torch.tensor(1.0), KEY, 0, 2)
    assert set(codes.tolist()) == {200, 201}
    share = float((codes == 201).double().mean())
    assert abs(share - 0.3) < 3 * (0.3 * 0.7 / n) ** 0.5


def test_log8_saturates_small_values_and_keeps_zero():
    codes = round_log8(torch.tensor([0.0, 1e-30, 1.0]), torch.tensor(1.0), KEY, 0, 1)
    assert codes.tolist() == [0, 1, 255]


def test_log8_scale_is_the_next_power_of_two():
    largest = [0.0, 1.0, 1.01, 0.5, 3e-20]
    scales = [float(log8_scale(torch.tensor(value))) for value in largest]
    assert scales[:4] == [1.0, 1.0, 2.0, 0.5]
    assert 3e-20 <= scales[4] < 6e-20
