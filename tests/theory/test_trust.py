import pytest
import torch

from rung.theory import gradient_breakdown, trust_bound


def test_equal_relative_change_of_every_layer_gives_one_power():
    generator = torch.Generator().manual_seed(0)
    before = [torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (2, 5, 9, 4)]
    lr = 0.01
    for signs in (1.0, -1.0):
        after = [w * (1 + signs * lr) for w in before]
        assert trust_bound(before, after) == pytest.approx((1 + lr) ** 4 - 1, rel=1e-12)


def test_bound_multiplies_the_layers():
    before = [torch.ones(4), torch.ones(4)]
    after = [torch.tensor([2.0, 1.0, 1.0, 1.0]), torch.zeros(4)]
    assert trust_bound(before, after) == pytest.approx((1 + 0.5) * (1 + 1.0) - 1)


def test_no_change_gives_zero():
    layers = [torch.ones(2), torch.ones(3)]
    assert trust_bound(layers, layers) == 0.0
    assert gradient_breakdown(layers[0], layers[0]) == 0.0


def test_breakdown_is_the_relative_norm_of_the_change():
    before, after = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 14.0])
    assert gradient_breakdown(before, after) == pytest.approx(2.0)


def test_unequal_numbers_of_layers_and_none_are_refused():
    with pytest.raises(ValueError, match="the same layers, at least one; got 1 and 2"):
        trust_bound([torch.ones(1)], [torch.ones(1), torch.ones(1)])
    with pytest.raises(ValueError, match="the same layers, at least one; got 0 and 0"):
        trust_bound([], [])


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match=r"must keep its shape; got \(2,\) and \(3,\)"):
        gradient_breakdown(torch.ones(2), torch.ones(3))


@pytest.mark.parametrize("before", [torch.zeros(2), torch.tensor([float("nan"), 1.0])])
def test_zero_or_not_finite_starts_are_refused(before):
    with pytest.raises(ValueError, match="needs a finite norm above zero; got .* Leave this layer"):
        trust_bound([before], [torch.ones(2)])
