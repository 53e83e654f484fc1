import math

import pytest
import torch

from rung.theory import angle


def test_proportional_sizes_have_angle_zero_whatever_the_signs():
    weight = torch.tensor([[1.0, -2.0], [3.0, -4.0]])
    assert angle(weight, torch.tensor([[-2.0, -4.0], [6.0, 8.0]])) == pytest.approx(0.0, abs=1e-15)


def test_disjoint_supports_have_angle_pi_over_two():
    gamma = angle(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0]))
    assert gamma == pytest.approx(math.pi / 2, abs=1e-15)
    assert gamma <= math.pi / 2


@pytest.mark.parametrize("degrees", [1e-6, 0.5, 30.0, 45.0, 89.999])
def test_angle_in_the_plane_is_the_angle_drawn(degrees):
    gamma = math.radians(degrees)
    grad = torch.tensor([-math.cos(gamma), math.sin(gamma)], dtype=torch.float64)
    weight = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert angle(weight, grad) == pytest.approx(gamma, rel=1e-12)


def test_angle_ignores_the_scale_of_either_side():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    grad = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    expected = angle(weight, grad)
    for scale in (1e-250, 1e-30, 1e30, 1e250):
        assert angle(scale * weight, grad) == pytest.approx(expected, rel=1e-12)
        assert angle(weight, -scale * grad) == pytest.approx(expected, rel=1e-12)


def test_low_precision_inputs_are_accumulated_in_float64():
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(300, 300, generator=generator).to(torch.bfloat16)
    grad = torch.randn(300, 300, generator=generator).to(torch.bfloat16)
    u, v = weight.double().abs(), grad.double().abs()
    expected = math.acos(float((u * v).sum() / (u.norm() * v.norm())))
    assert angle(weight, grad) == pytest.approx(expected, rel=1e-10)


def test_angle_of_normal_weights_and_gradients_is_near_arccos_of_two_over_pi():
    # E|x|E|y| / E x^2 = 2/pi for independent normal values: the paper's guess pi/4 is close.
    generator = torch.Generator().manual_seed(2)
    weight, grad = torch.randn(2, 100_000, generator=generator)
    assert angle(weight, grad) == pytest.approx(math.acos(2 / math.pi), abs=5e-3)


def test_parameters_that_require_gradients_and_views_are_accepted():
    weight = torch.nn.Parameter(torch.arange(1.0, 7.0).reshape(2, 3))
    assert angle(weight, weight.detach()) == pytest.approx(0.0, abs=1e-15)
    assert angle(weight.t(), weight.detach().t()) == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("empty", [torch.zeros(3), torch.zeros(0)])
def test_zero_or_empty_tensors_have_no_angle(empty):
    other = torch.ones_like(empty)
    with pytest.raises(ValueError, match=r"`weight` must be finite .* The angle is undefined here"):
        angle(empty, other)
    if empty.numel():
        with pytest.raises(ValueError, match=r"`grad` must be finite .*got zero throughout"):
            angle(other, empty)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_have_no_angle(bad):
    with pytest.raises(ValueError, match="got NaN or infinity.* leave this layer out"):
        angle(torch.ones(2), torch.tensor([1.0, bad]))


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match=r"must have one shape; got \(2,\) and \(2, 1\)"):
        angle(torch.ones(2), torch.ones(2, 1))
