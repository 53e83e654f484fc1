import pytest
import torch
from torch import nn

from rung.formats import LNS, get
from rung.tensor import CodedTensor

from .weights import KINDS, coded, same

# The ways to keep signs that can hold every sign.
PACKED = ["ladder8", "lns8", "lns16"]


def test_in_place_arithmetic_is_refused(parameter):
    with pytest.raises(RuntimeError, match="would write floats into a weight that lives in codes"):
        parameter.data.add_(1)
    with pytest.raises(RuntimeError, match="would write floats"), torch.no_grad():
        parameter.mul_(2)


LOST = {
    "foreach": lambda w: torch._foreach_mul_([w], 2.0),
    "out": lambda w: torch.mul(torch.ones(6, 4), 2.0, out=w),
    "init": lambda w: nn.init.normal_(w),
    "setitem": lambda w: w.__setitem__(0, 0.0),
    "setitem of data": lambda w: w.data.__setitem__(slice(1, None), 9.0),
    "AdamW": lambda w: stepped(torch.optim.AdamW([w], foreach=True), w),
    "AdamW fused": lambda w: stepped(torch.optim.AdamW([w], fused=True), w),
    "SGD": lambda w: stepped(torch.optim.SGD([w]), w),
}


def stepped(optimizer, weight):
    weight.grad = torch.ones(6, 4)
    optimizer.step()


@pytest.mark.parametrize("write", LOST)
def test_no_write_is_lost_in_silence(parameter, write):
    before = parameter.codes.clone()
    with pytest.raises(RuntimeError, match="would write floats into a weight"), torch.no_grad():
        LOST[write](parameter)
    assert torch.equal(parameter.codes, before)


@pytest.mark.parametrize("fmt", PACKED)
def test_assigning_data_assigns_the_codes(fmt):
    weight = nn.Parameter(coded(fmt=fmt))
    error = 1.01 * weight.format.max_relative_error
    half = weight.detach().decode() * 0.5
    weight.data = half
    assert float((weight.detach().decode() / half - 1).abs().max()) <= error
    nn.utils.vector_to_parameters(2 * half.flatten(), [weight])
    assert float((weight.detach().decode() / (2 * half) - 1).abs().max()) <= error


@pytest.mark.parametrize("fmt", PACKED)
def test_a_source_far_smaller_than_the_scale_gets_a_scale_of_its_own(fmt):
    weight = coded((100, 16), fmt)
    small = 1e-4 * torch.randn(100, 16, generator=torch.Generator().manual_seed(1))
    weight.copy_(small)
    assert float(weight.scale) == float(small.abs().max())
    assert float(weight.decode().std()) == pytest.approx(float(small.std()), rel=0.02)


@pytest.mark.parametrize("fmt", PACKED)
def test_copy_from_floats_rounds_and_grows_the_scale(fmt):
    weight = nn.Parameter(coded(fmt=fmt))
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(8)) * 10
    with torch.no_grad():
        weight.copy_(values)
    assert float(weight.scale) == float(values.abs().max())
    error = (weight.decode() / values - 1).abs()
    in_range = values.abs() > float(weight.scale) / weight.format.dynamic_range
    assert float(error[in_range].max()) <= weight.format.max_relative_error * 1.001
    floats = torch.empty(6, 4)
    floats.copy_(weight.detach())
    assert torch.equal(floats, weight.detach().decode())


def test_copy_into_seeded_signs_needs_the_seeds_signs():
    weight = coded(signs="seed")
    weight.copy_(weight.decode() * 0.5)
    before = weight.codes.clone()
    with pytest.raises(ValueError, match=r"\d+ of 24 signs differ .* signs='packed'"):
        weight.copy_(-weight.decode())
    assert torch.equal(weight.codes, before)


@pytest.mark.parametrize("fmt", PACKED)
def test_copy_refuses_other_shapes_and_nan(fmt):
    weight = coded(fmt=fmt)
    with pytest.raises(ValueError, match=r"must have shape \(6, 4\); got \(4, 6\)"):
        weight.copy_(torch.ones(4, 6))
    with pytest.raises(ValueError, match="must be finite; got 1 NaN"):
        weight.copy_(
            torch.full((6, 4), 1.0)
            .index_fill(0, torch.tensor([]).long(), 0)
            .masked_fill(torch.arange(24).reshape(6, 4) == 3, float("nan"))
        )


@pytest.mark.parametrize(("fmt", "signs"), KINDS)
def test_copy_from_the_same_format_copies_every_part(fmt, signs):
    weight, source = coded(fmt=fmt, signs=signs), coded(fmt=fmt, signs=signs, seed=9)
    codes = weight.codes
    weight.copy_(source)
    assert same(weight, source)
    assert weight.codes is codes
    source.codes.zero_()
    assert not torch.equal(weight.codes, source.codes)


@pytest.mark.parametrize(
    ("fmt", "source"),
    [
        ("ladder8", "ladder12"),
        ("ladder8", "lns8"),
        ("lns8", "ladder12"),
        ("lns8", "lns16"),
        ("lns16", "ladder8"),
        ("lns16", "lns4"),
    ],
)
def test_copy_from_another_format_rounds_to_the_targets(fmt, source):
    weight, other = coded(fmt=fmt), coded(fmt=source, seed=9)
    weight.copy_(other)
    assert weight.format == get(fmt)
    assert torch.equal(weight.decode(), weight.format.quantize(other.decode(), scale=weight.scale))


def test_an_8_bit_copy_of_16_bit_codes_under_one_scale_is_their_nearest():
    fine, coarse = coded((40, 30), "lns16"), coded((40, 30), "lns8", seed=3)
    coarse.copy_(fine)
    assert torch.equal(coarse.scale, fine.scale)
    ratio = (coarse.decode() / fine.decode()).log2().abs()
    assert float(ratio.max()) <= 0.5 / coarse.format.base_factor * 1.001


@pytest.mark.parametrize("fmt", PACKED)
def test_a_copied_zero_becomes_the_smallest_value(fmt):
    weight = coded(fmt=fmt)
    scale = weight.scale.clone()
    weight.copy_(torch.zeros(6, 4))
    assert torch.equal(weight.scale, scale)
    smallest = float(scale) * weight.format.smallest
    torch.testing.assert_close(weight.decode(), torch.full((6, 4), smallest))


@pytest.mark.parametrize("fmt", PACKED)
def test_copy_keeps_a_scale_for_every_channel(fmt):
    values = torch.randn(5, 8, generator=torch.Generator().manual_seed(2))
    largest = values.abs().amax(dim=1, keepdim=True)
    weight = CodedTensor.from_float(values, fmt, largest)
    values[1:3] *= 10
    weight.copy_(values)
    torch.testing.assert_close(weight.scale, values.abs().amax(dim=1, keepdim=True))
    assert torch.equal(weight.decode(), weight.format.quantize(values, scale=weight.scale))


def test_a_format_of_powers_of_two_keeps_such_scales():
    fmt = LNS(8, 8, power_of_two_scale=True)
    weight = CodedTensor.from_float(torch.full((2, 2), 0.7), fmt, 1.0)
    weight.copy_(torch.full((2, 2), 0.3))
    assert float(weight.scale) == 1.0
    values = torch.tensor([[5.0, -0.3], [0.2, 0.1]])
    weight.copy_(values)
    assert float(weight.scale) == 8.0
    assert torch.equal(weight.decode(), fmt.quantize(values))


def test_each_group_keeps_or_changes_its_scale_for_itself():
    weight = torch.randn(3, 50)
    target = CodedTensor.from_float(weight, "lns16", 3 * weight.abs().amax(1, keepdim=True))
    before = target.scale.clone()
    source = weight.clone()
    source[0] = 0
    source[1] *= 1e-4
    target.copy_(source)
    assert torch.equal(target.scale[[0, 2]], before[[0, 2]])
    assert target.scale[1] == source[1].abs().max()
