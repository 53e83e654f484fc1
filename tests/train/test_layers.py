from dataclasses import replace

import pytest
import torch
from torch import nn

from rung import formats
from rung.nn import Policy, Quantizer
from rung.train import get_recipe, with_settings
from rung.train.layers import (
    LayerOptions,
    convert_layers,
    layer_record,
    policy,
    require_compute_format,
)


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


def test_formats_that_only_store_are_refused_with_those_that_compute():
    known = "`backward_format` must name a format that layers.*got 'ladder8'.*lns8, .*mxfp6_e3m2"
    with pytest.raises(ValueError, match=known) as refused:
        LayerOptions(backward_format="ladder8")
    assert "ladder2" not in str(refused.value)
    with pytest.raises(ValueError, match="`format` must name a format that layers.*got 'int8'"):
        require_compute_format("format", "int8")
    with pytest.raises(ValueError, match="Unknown format 'lnsx'"):
        LayerOptions(backward_format="lnsx")
    with pytest.raises(ValueError, match="`backward_rounding` must be one of nearest, stochastic"):
        LayerOptions(backward_rounding="up")
    with pytest.raises(ValueError, match="`forward_rounding` must be one of nearest, stochastic"):
        LayerOptions(forward_rounding="up")


@pytest.mark.parametrize("name", ["lns8", "mxfp4", "mxfp4_k16+ceil", "fp8_e4m3", "bf16"])
def test_a_compute_format_is_found_by_its_name(name):
    assert require_compute_format("format", name) == formats.get(name)


@pytest.mark.parametrize("name", ["mxfp6_e3m2", "mxfp4_k16", "mxint8", "fp8_e4m3", "bf16"])
def test_only_the_forward_pass_of_mx_and_minifloats_is_rounded(name):
    made = policy(name, LayerOptions())
    assert made == Policy(name, name, None, None)
    assert layer_record(name, LayerOptions())["backward_format"] == "float32"


def test_gradients_can_have_a_format_of_any_family_or_none():
    made = policy("mxfp4", LayerOptions(backward_format="mxfp8_e5m2"))
    assert made == Policy("mxfp4", "mxfp4", "mxfp8_e5m2", "mxfp8_e5m2")
    made = policy("mxfp4", LayerOptions(backward_format="lns8_b4", error_scale="row"))
    assert made.error == Quantizer("lns8_b4+zero", "row")
    assert made.gradient == Quantizer("lns8_b4+zero", "tensor")
    made = policy("lns8", LayerOptions(backward_format="float32"))
    assert (made.error, made.gradient) == (None, None)
    assert made.weight == policy("lns8", LayerOptions()).weight
    made = policy("lns8", LayerOptions(backward_format="mxfp6_e2m3"))
    assert made.error == made.gradient == Quantizer("mxfp6_e2m3")
    record = layer_record("lns8", LayerOptions(backward_format="mxfp6_e2m3"))
    assert record["backward_format"] == "mxfp6_e2m3"


@pytest.mark.parametrize("name", ["lns8", "mxfp4", "bf16"])
def test_weights_and_activations_can_be_rounded_stochastically(name):
    options = LayerOptions(forward_rounding="stochastic", backward_format="mxfp8_e5m2")
    made = policy(name, options)
    places = (made.weight, made.activation, made.error, made.gradient)
    assert [place.rounding for place in places] == ["stochastic"] * 2 + ["nearest"] * 2
    assert layer_record(name, options)["forward_rounding"] == "stochastic"
    # Runs from before there was a choice have no such entry.
    assert "forward_rounding" not in layer_record(name, LayerOptions())


def test_a_minifloat_can_have_another_scale_than_its_own():
    made = policy("fp8_e4m3", LayerOptions(weight_scale="row", activation_scale="block16"))
    assert (made.weight.scale, made.activation.scale) == ("row", 16)
    assert policy("bf16", LayerOptions(weight_scale="row")).weight.scale == "row"


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("mxfp4", {"weight_scale": "block16"},
         "`weight_scale` must be left out for an MX, .* of 32; got 'block16' for mxfp4. Drop"),
        ("lns8", {"error_scale": "row", "backward_format": "mxfp8_e5m2"},
         "`error_scale` must be left out for an MX.*got 'row' for mxfp8_e5m2"),
        ("mxfp4", {"gradient_scale": "row"},
         "`gradient_scale` needs gradients in a format; got 'row', and they stay float32. Give"),
        ("lns8", {"backward_rounding": "stochastic", "backward_format": "float32"},
         "`backward_rounding` needs gradients in a format; got 'stochastic'"),
    ],
)  # fmt: skip
def test_settings_without_effect_are_refused(name, options, text):
    with pytest.raises(ValueError, match=text):
        policy(name, LayerOptions(**options))


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


def test_a_model_computes_in_the_mx_of_its_configuration():
    network, plain = model(), model()
    line = convert_layers(config("float_layers=2", format="mxfp6_e3m2"), network)
    assert line.startswith("1 compute in mxfp6_e3m2")
    inputs = torch.randn(5, 4)
    fmt = formats.get("mxfp6_e3m2")
    with torch.no_grad():
        x, w = fmt.quantize(inputs), fmt.quantize(plain[0].weight)
        expected = torch.nn.functional.linear(x, w, plain[0].bias)
    assert torch.equal(network[0](inputs), expected)
