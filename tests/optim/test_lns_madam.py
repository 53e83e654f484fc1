"""What LNSMadam promises beyond the laws that every optimizer keeps."""

import hashlib
import warnings

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

import rung
from rung.formats import LNS
from rung.kernels.lns import exponents, is_negative, join
from rung.kernels.rung_moves import rungs_down
from rung.optim import BBitMadam, LNSMadam, lns_madam_update, split_parameters
from rung.tensor import CodedTensor

from .cases import randn


def stored(values, fmt="lns16", scale=3.0, name="w"):
    return nn.Parameter(CodedTensor.from_float(values, fmt, scale, name=name))


def codes_of(parameter):
    return exponents(parameter.codes, parameter.format.bits)


@pytest.mark.parametrize("fmt", ["lns10", "lns12", "lns14", "lns16"])
def test_lr_is_the_change_of_log2_in_octaves(fmt):
    parameter = stored(torch.tensor([1.0, -0.25, 0.01]), fmt)
    before = parameter.detach().decode().abs().log2()
    optimizer = LNSMadam([parameter], lr=0.25)
    parameter.grad = torch.tensor([1.0, 1.0, -5.0])  # u = 1, 1, -1 on the first step
    optimizer.step()
    moved = parameter.detach().decode().abs().log2() - before
    torch.testing.assert_close(moved, torch.tensor([-0.25, 0.25, 0.25]), atol=1e-5, rtol=0)


def test_signs_never_change_and_saturation_never_wraps():
    for bits in (3, 8, 10, 16):
        fmt = LNS(bits, 2)
        every = torch.arange(fmt.levels).repeat(2)
        negative = torch.arange(2 * fmt.levels) >= fmt.levels
        for direction in (1, -1):
            parameter = stored(torch.ones(2 * fmt.levels), fmt)
            parameter.codes.copy_(join(every, negative, bits))
            parameter.grad = direction * torch.ones(2 * fmt.levels)
            LNSMadam([parameter], lr=1e30).step()
            # Positive weights shrink under a positive gradient, negative ones grow.
            shrinks = negative != (direction > 0)
            expected = torch.where(shrinks, 0, fmt.levels - 1)
            assert torch.equal(codes_of(parameter), expected.to(torch.int32))
            assert torch.equal(is_negative(parameter.codes, bits), negative)


def test_the_update_is_the_specifications_integer_addition():
    e = torch.tensor([0, 100, 100, 127], dtype=torch.int32)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0])
    u = torch.tensor([1.0, 1.25, 1.25, 2.0])
    wanted = rungs_down(signs, u, 2.0, 20.0, 0.0)
    assert lns_madam_update(e, wanted, 127, None).tolist() == [0, 98, 102, 127]  # 2.5 to even
    decayed = rungs_down(signs, torch.zeros(4), 2.0, 20.0, 6.0)
    assert lns_madam_update(e, decayed, 127, None).tolist() == [0, 94, 94, 121]
    draws = torch.tensor([0, 40_000, 40_000, 0], dtype=torch.int32)
    assert lns_madam_update(e, wanted, 127, draws).tolist() == [0, 97, 102, 127]


def test_stochastic_rounding_of_moves_keeps_the_mean():
    n, lr = 100_000, 0.005
    parameter = stored(torch.ones(n), "lns10")
    before = codes_of(parameter)
    parameter.grad = torch.ones(n)
    LNSMadam([parameter], lr=lr, rounding="stochastic").step()
    moved = (before - codes_of(parameter)).double()
    expected = lr * 32  # u = 1 on the first step
    assert set(moved.tolist()) == {0.0, 1.0}
    assert abs(float(moved.mean()) - expected) < 3 * (expected * (1 - expected) / n) ** 0.5


def test_lr_under_half_a_rung_warns_and_names_the_ways_out():
    match = (
        r"lr=0.007812 octaves is under half a rung \(0.01562\) of the weights' format.*Use "
        r"rounding='stochastic', a format of more bits, or lr >= 0.01562"
    )
    with pytest.warns(UserWarning, match=match) as caught:
        LNSMadam([stored(randn(4, 3), "lns10")])
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=match):  # the coarsest weight decides
        LNSMadam([stored(randn(4, 3), "lns16"), stored(randn(4, 3), "lns10")])
    LNSMadam([stored(randn(4, 3), "lns10")], rounding="stochastic")
    parameter = stored(randn(4, 3), "lns12")
    optimizer = LNSMadam([parameter])
    schedule = StepLR(optimizer, 1, 0.1)
    parameter.grad = randn(4, 3)
    optimizer.step()
    schedule.step()
    with pytest.warns(UserWarning, match="lr=0.0007813 octaves is under half a rung"):
        optimizer.step()
    optimizer.step()  # once is enough


def test_parameters_of_another_kind_are_refused_with_the_optimizer_to_use():
    with pytest.raises(
        ValueError, match="parameter 0 of group 0 must be stored in codes; got a floating-point.*16"
    ):
        LNSMadam([nn.Parameter(randn(4, 3))])
    ladder = nn.Parameter(CodedTensor.from_float(randn(4, 3), "ladder8", 3.0))
    with pytest.raises(
        ValueError, match=r"\('fc'\) must be stored as a LNS.*got ladder8. Use rung.optim.BBitMadam"
    ):
        LNSMadam([("fc", ladder)])
    with pytest.raises(
        ValueError, match=r"\('fc'\) must be stored as a Ladder.*got lns16. Use rung.optim.LNSMadam"
    ):
        BBitMadam([("fc", stored(randn(4, 3)))])
    with pytest.raises(ValueError, match="`rounding` must be one of 'nearest', 'stochastic'; got"):
        LNSMadam([stored(randn(4, 3))], rounding="down")
    with pytest.raises(ValueError, match="stored in codes can't be trained by AdamW"):
        LNSMadam([{"params": [stored(randn(4, 3))], "algorithm": "adamw"}])


def test_state_of_bbit_madam_is_refused():
    ladder = nn.Parameter(CodedTensor.from_float(randn(4, 3), "ladder12", 3.0))
    state = BBitMadam([ladder]).state_dict()
    with pytest.raises(ValueError, match=r"\['lns_madam'\]; got \['bbit_madam'\]"):
        LNSMadam([stored(randn(4, 3))]).load_state_dict(state)


def test_it_learns_a_real_network_with_a_split():
    losses = {}
    for fmt, rounding in (("lns16", "nearest"), ("lns10", "stochastic")):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 1))
        rung.store_weights_(net, fmt)
        optimizer = LNSMadam(split_parameters(net), lr=0.04, rounding=rounding)
        assert [group["algorithm"] for group in optimizer.param_groups] == ["lns_madam", "adamw"]
        x = torch.randn(64, 4)
        y = (x[:, :1] * x[:, 1:2]).sin()
        for _ in range(200):
            optimizer.zero_grad()
            loss = (net(x) - y).square().mean()
            loss.backward()
            optimizer.step()
            losses.setdefault(fmt, float(loss.detach()))
        assert float(loss.detach()) < 0.3 * losses[fmt]


def test_golden_codes_after_100_steps():
    """A change of these numbers changes every user's run: mean it, and say so in the CHANGELOG."""

    digests = {}
    for bits in (8, 10, 12, 16):
        for rounding in ("nearest", "stochastic"):
            index = torch.arange(64, dtype=torch.float32)
            parameter = stored((index - 31.5) / 32, f"lns{bits}", 1.0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # coarse formats warn of lr under half a rung
                optimizer = LNSMadam([parameter], lr=0.05, rounding=rounding)
                for step in range(100):
                    parameter.grad = ((index * 7 + step * 13) % 17 - 8) / 8
                    optimizer.step()
            data = codes_of(parameter).numpy().astype("<i4").tobytes()
            digests[f"{bits} {rounding}"] = hashlib.sha256(data).hexdigest()[:12]
    assert digests == GOLDEN


GOLDEN = {
    "8 nearest": "356f8d89e785",
    "8 stochastic": "2f4f1162cabb",
    "10 nearest": "c6eaae0199ee",
    "10 stochastic": "9e354b1e4bc2",
    "12 nearest": "7c4c40c6d45e",
    "12 stochastic": "11bbbd65c203",
    "16 nearest": "0ca6e0749a0b",
    "16 stochastic": "a2cc66c2b5df",
}
