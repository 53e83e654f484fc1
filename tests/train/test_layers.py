from dataclasses import replace

import pytest
import torch
from torch import nn

from rung import formats
from rung.train import get_recipe, with_settings
from rung.train.layers import LayerOptions, convert_layers, policy


def config(*settings, optimizer="adamw", format="lns8"):
    base = replace(get_recipe("digits-mlp").configure(optimizer), format=format)
    return with_settings(base, settings)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def test_weights_have_no_zero_and_everything_else_has_one():
    made = policy("lns8", LayerOptions())
    assert made.weight.format == formats.LNS(8, 8)
    assert made.activation.format == formats.LNS(8, 8, zero=True)
    # Gradients: half the codes in an octave, twice the octaves.
    assert made.error.format == made.gradient.format == formats.LNS(8, 4, zero=True)
    assert policy("lns5", LayerOptions()).error.format == formats.LNS(5, 1, zero=True)
    for place in (made.activation, made.error, made.gradient):
        assert (place.scale, place.rounding) == ("tensor", "nearest")
    assert (made.weight.scale, made.weight.rounding) == ("channel", "nearest")


def test_options_reach_their_place():
    options = LayerOptions(
        weight_scale="row",
        activation_scale="block16",
        error_scale="channel",
        backward_format="lns10",
        backward_rounding="stochastic",
    )
    made = policy("lns6_b4", options)
    places = (made.weight, made.activation, made.error, made.gradient)
    assert [place.scale for place in places] == ["row", 16, "channel", "tensor"]
    assert [place.format.bits for place in places] == [6, 6, 10, 10]
    assert [place.format.base_factor for place in places] == [4, 4, 32, 32]
    assert [place.rounding for place in places] == ["nearest"] * 2 + ["stochastic"] * 2


@pytest.mark.parametrize("text", ["tensors", "block", "block0", "block-4", "block1.5", ""])
@pytest.mark.parametrize("field", ["weight_scale", "error_scale"])
def test_unknown_scales_are_refused_with_the_known_ones(field, text):
    known = f"`{field}` must be one of tensor, channel, row or blockN; got '{text}'"
    with pytest.raises(ValueError, match=known):
        LayerOptions(**{field: text})


def test_only_an_lns_can_be_the_format_of_gradients():
    with pytest.raises(ValueError, match="`backward_format` must name a log.* got 'ladder8'.*lns8"):
        LayerOptions(backward_format="ladder8")
    with pytest.raises(ValueError, match="Unknown format 'lnsx'"):
        LayerOptions(backward_format="lnsx")
    with pytest.raises(ValueError, match="`backward_rounding` must be one of nearest, stochastic"):
        LayerOptions(backward_rounding="up")


def test_float32_converts_nothing():
    network = model()
    before = [type(module) for module in network.modules()]
    assert convert_layers(config(format=None), network) is None
    ladder = config(optimizer="bbit-madam", format="ladder8")
    assert convert_layers(ladder, network) is None
    assert [type(module) for module in network.modules()] == before


def test_a_converted_model_computes_in_its_format_and_says_so_in_one_line():
    network, plain = model(), model()
    line = convert_layers(config(), network)
    assert "\n" not in line
    assert "2" in line
    inputs = torch.randn(5, 4)
    assert not torch.equal(network(inputs), plain(inputs))
    torch.testing.assert_close(network(inputs), plain(inputs), rtol=0.1, atol=0.1)


def test_layers_can_stay_in_float32():
    network, plain = model(), model()
    convert_layers(config(" float_layers = 2 , "), network)
    inputs = torch.randn(5, 4)
    assert not torch.equal(network[0](inputs), plain[0](inputs))
    hidden = torch.randn(5, 8)
    assert torch.equal(network[2](hidden), plain[2](hidden))


def test_patterns_that_match_nothing_are_refused():
    with pytest.raises(ValueError, match="hea"):
        convert_layers(config("float_layers=hea"), model())
