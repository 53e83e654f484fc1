import pytest
import torch
import torch.nn.functional as F

import rung
from rung.nn import audit, convert_
from rung.tensor import CodedTensor
from rung.train.models.spectral import (
    SpectralConv2d,
    SpectralEmbedding,
    SpectralLinear,
    iterate_spectral_norms_,
)


def largest(weight):
    return float(torch.linalg.matrix_norm(weight.flatten(1), 2))


LAYERS = {
    "conv": (lambda: SpectralConv2d(3, 8, 3), lambda: torch.randn(2, 3, 6, 6)),
    "linear": (lambda: SpectralLinear(12, 5), lambda: torch.randn(4, 12)),
    "one output": (lambda: SpectralLinear(12, 1), lambda: torch.randn(4, 12)),
    "embedding": (lambda: SpectralEmbedding(10, 6), lambda: torch.tensor([3, 3, 9])),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        build, inputs = LAYERS[request.param]
        return build(), inputs()


def plain(layer, inputs, weight):
    if isinstance(layer, SpectralConv2d):
        return F.conv2d(inputs, weight, layer.bias, padding=1)
    if isinstance(layer, SpectralLinear):
        return F.linear(inputs, weight, layer.bias)
    return F.embedding(inputs, weight)


def test_sigma_becomes_the_largest_singular_value(layer):
    module, _ = layer
    for _ in range(1000):
        iterate_spectral_norms_(module.modules())
    assert float(module.sigma().detach()) == pytest.approx(
        largest(module.weight.detach()), rel=1e-3
    )


def test_the_layer_is_that_of_the_divided_weight(layer):
    module, inputs = layer
    expected = plain(module, inputs, module.weight / module.sigma())
    torch.testing.assert_close(module(inputs), expected)


def test_its_gradient_is_that_of_torchs_spectral_norm(layer):
    module, inputs = layer
    module(inputs).square().sum().backward()
    found = module.weight.grad.clone()
    weight = module.weight.detach().clone().requires_grad_()
    with torch.no_grad():
        left = module.left.flatten()
        right = F.normalize(weight.flatten(1).T @ left, dim=0)
    sigma = left @ weight.flatten(1) @ right
    plain(module, inputs, weight / sigma).square().sum().backward()
    torch.testing.assert_close(found, weight.grad)


@pytest.mark.parametrize("fmt", ["ladder8", "ladder12", "lns16"])
def test_weights_in_codes_have_the_norm_of_what_they_stand_for(layer, fmt):
    module, inputs = layer
    rung.store_weights_(module, fmt, seed=3)
    assert isinstance(module.weight, CodedTensor)
    for _ in range(300):
        iterate_spectral_norms_(module.modules())
    weight = module.weight.decode()
    assert float(module.sigma().detach()) == pytest.approx(largest(weight), rel=1e-3)
    torch.testing.assert_close(module(inputs), plain(module, inputs, weight / module.sigma()))
    module(inputs).sum().backward()
    assert not isinstance(module.weight.grad, CodedTensor)
    assert bool(module.weight.grad.any())


def test_stored_weights_with_new_signs_are_divided_by_no_tiny_number(layer):
    module, _ = layer
    rung.store_weights_(module, "ladder8", signs="seed", seed=5)
    # u is that of the old weight.
    share = float(module.sigma().detach()) / largest(module.weight.decode())
    assert 0.1 < share < 1.001


def test_a_converted_layer_has_every_product_in_its_format(layer):
    module, inputs = layer
    convert_(module)
    report = audit(module, (inputs,), strict=True)
    assert report.entries


def test_the_vector_is_saved_and_the_iteration_goes_on_from_it():
    torch.manual_seed(0)
    first, second = SpectralConv2d(3, 4, 3), SpectralConv2d(3, 4, 3)
    second.load_state_dict(first.state_dict())
    for layer in (first, second):
        layer.iterate_()
    assert torch.equal(first.left, second.left)
    assert set(first.state_dict()) == {"weight", "bias", "left"}
