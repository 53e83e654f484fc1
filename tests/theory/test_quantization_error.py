import math

import pytest
import torch

from rung.formats import LNS
from rung.theory import additive_step, lost_share, multiplicative_step, quantization_error

SCALE = 8.0


def grid(fmt: LNS) -> torch.Tensor:
    """Every value of a format within the ten octaves under its scale; float64."""
    codes = torch.arange(10 * fmt.base_factor + 1, dtype=torch.float64)
    return SCALE * torch.exp2(-codes / fmt.base_factor)


@pytest.mark.parametrize("base_factor", [1, 8, 32])
@pytest.mark.parametrize("lr", [2**-8, 2**-5, 0.3])
def test_multiplicative_error_and_share_are_the_same_for_every_magnitude(base_factor, lr):
    fmt = LNS(12, base_factor)
    weight = grid(fmt)[base_factor:]
    for update in (1.0, -1.0):
        updated = multiplicative_step(weight, torch.tensor(update), lr)
        error = quantization_error(updated, fmt, scale=SCALE)
        share = lost_share(weight, updated, fmt, scale=SCALE)
        rungs = base_factor * lr
        expected = abs(rungs - round(rungs)) / base_factor
        torch.testing.assert_close(error, torch.full_like(error, expected), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(share, error / lr, rtol=1e-6, atol=1e-6)
        assert float(error.max()) <= 0.5 / base_factor + 1e-9


@pytest.mark.parametrize("base_factor", [1, 8, 32])
@pytest.mark.parametrize("lr", [2**-8, 2**-5])
def test_additive_steps_are_lost_whole_above_the_magnitude_of_the_theory(base_factor, lr):
    fmt = LNS(12, base_factor)
    weight, grad = grid(fmt), 1.0
    updated = additive_step(weight, torch.tensor(grad), lr)
    share = lost_share(weight, updated, fmt, scale=SCALE)
    error = quantization_error(updated, fmt, scale=SCALE)
    limit = 2 * base_factor * lr * grad / math.log(2)
    lost = weight > 1.1 * limit  # 10 %: the limit is of first order in lr g / W
    assert bool(lost.any())
    torch.testing.assert_close(share[lost], torch.ones_like(share[lost]), rtol=1e-6, atol=0)
    assert float(error[updated != 0].max()) <= 0.5 / base_factor + 1e-9
    kept = weight < 0.2 * limit
    if kept.any():
        assert float(share[kept].mean()) < 0.5


def test_steps_are_the_two_rules():
    weight = torch.tensor([2.0, -2.0])
    assert additive_step(weight, torch.tensor([1.0, 1.0]), 0.5).tolist() == [1.5, -2.5]
    assert multiplicative_step(weight, torch.tensor([1.0, 1.0]), 1.0).tolist() == [1.0, -4.0]


def test_zero_that_is_kept_is_no_error_and_zero_that_is_lost_an_infinite_one():
    updated = torch.tensor([0.0, 1.0])
    assert quantization_error(updated, "lns8+zero", scale=1.0).tolist() == [0.0, 0.0]
    assert quantization_error(updated, "lns8", scale=1.0).tolist() == [math.inf, 0.0]


def test_no_step_loses_nothing_and_a_step_to_a_zero_out_of_reach_all():
    weight = torch.ones(3)
    assert lost_share(weight, weight, "lns8").tolist() == [0.0] * 3
    gone = torch.tensor([0.0, 1.0, 1.0])
    assert lost_share(weight, gone, "lns8").tolist() == [1.0, 0.0, 0.0]
    assert lost_share(weight, gone, "lns8+zero").tolist() == [0.0] * 3


def test_unequal_shapes_unknown_formats_and_nan_are_refused():
    with pytest.raises(ValueError, match=r"must have one shape; got \(2,\) and \(3,\). Pass the"):
        lost_share(torch.ones(2), torch.ones(3), "lns8")
    with pytest.raises(ValueError, match="Unknown format 'int99'"):
        quantization_error(torch.ones(2), "int99")
    with pytest.raises(ValueError, match="must be finite"):
        quantization_error(torch.tensor([1.0, math.nan]), "lns8")
