"""SignedMadam on pairs of ladders: two codes a weight, moved against each other."""

import pytest
import torch
from oracles.pair_madam_integer import PairMadamOracle
from torch import nn

import rung
from rung.formats import Pair, get
from rung.kernels.ladder import store_codes
from rung.kernels.pair import join
from rung.optim import SignedMadam, split_parameters
from rung.tensor import CodedTensor

from .cases import randn
from .test_oracles import SHAPES, gradients, oracle_run


def stored(values, fmt="pair16", scale=3.0, name="w"):
    return nn.Parameter(CodedTensor.from_float(values, fmt, scale, name=name))


def both(parameter):
    plus, minus = (k.flatten().tolist() for k in parameter.format.split(parameter.codes))
    return list(zip(plus, minus, strict=True))


@pytest.mark.parametrize("bits", [4, 8, 12, 16])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("shape", [*SHAPES, (0,), (4, 0)])
@pytest.mark.parametrize(
    ("weight_decay", "clip", "momentum"), [(0.0, 8.0, 0.0), (0.5, 1.5, 0.0), (0.5, 1.5, 0.9)]
)
def test_both_codes_equal_the_integer_oracle(bits, rounding, shape, weight_decay, clip, momentum):
    fmt = Pair(bits, 0.03)
    lr = max(0.1, 0.7 * fmt.spacing) if rounding == "nearest" else 0.1
    parameter = nn.Parameter(CodedTensor.from_float(randn(*shape, seed=1), fmt, 3.0, seed=5))
    optimizer = SignedMadam(
        [parameter], lr, 0.999, clip, weight_decay, momentum, rounding=rounding, state="fp32"
    )
    start = both(parameter)
    options = {"lr": lr, "rounding": rounding, "weight_decay": weight_decay, "clip": clip}
    options |= {"bits": bits, "spacing": fmt.spacing, "key": int(parameter.key)}
    options |= {"momentum": momentum}
    expected = oracle_run(PairMadamOracle, start, [0] * len(start), gradients(shape, 30), **options)
    seen = set()
    for grad, rungs in zip(gradients(shape, 30), expected, strict=True):
        parameter.grad = grad
        optimizer.step()
        assert both(parameter) == rungs
        seen |= {plus + minus != 0 for plus, minus in rungs}
    assert parameter.codes.dtype == fmt.code_dtype
    # Draws of their own take the two apart, and then no single code holds them.
    if parameter.numel() > 6:
        assert (True in seen) == (rounding == "stochastic")


@pytest.mark.parametrize("state", ["rows", "factored", "fp32"])
@pytest.mark.parametrize("maximize", [False, True])
def test_one_moves_up_where_the_other_goes_down(state, maximize):
    fmt = get("pair16")
    parameter, lr = stored(torch.tensor([[1.0, -0.25], [0.0, 0.5]])), 10 * fmt.spacing
    before = both(parameter)
    parameter.grad = torch.ones(2, 2)  # u = 1
    optimizer = SignedMadam([parameter], lr=lr, rounding="nearest", state=state, maximize=maximize)
    optimizer.step()
    down = -10 if maximize else 10
    assert both(parameter) == [(plus - down, minus + down) for plus, minus in before]


@pytest.mark.parametrize("state", ["rows", "log8"])
def test_a_pull_takes_both_towards_the_middle(state):
    codes = store_codes(join(torch.tensor([100, 60]).int(), torch.tensor([80, -60]).int(), 16), 16)
    parameter = stored(torch.ones(2))
    parameter.codes.copy_(codes)
    parameter.grad = torch.zeros(2)
    lr = 127 * get("pair16").spacing
    options = {"rounding": "nearest", "state": state}
    SignedMadam([parameter], lr=lr, weight_decay=0.1, **options).step()
    assert both(parameter) == [(90, 72), (54, -54)]


def test_a_model_of_both_kinds_moves_in_one_group():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
    rung.store_weights_(model[0], "sinh8")
    rung.store_weights_(model[1], "pair8")
    optimizer = SignedMadam(split_parameters(model))
    before = [layer.weight.codes.clone() for layer in model]
    model(torch.randn(3, 8)).square().mean().backward()
    optimizer.step()
    assert all(
        not torch.equal(layer.weight.codes, old) for layer, old in zip(model, before, strict=True)
    )
    with pytest.raises(ValueError, match="stored as a Sinh or a Pair to be moved by SignedMadam"):
        SignedMadam([stored(randn(4, 3), "ladder8")])
    with pytest.raises(ValueError, match=r"got pair8. Use rung.optim.SignedMadam"):
        rung.optim.LNSMadam([stored(randn(4, 3), "pair8")])


def test_it_learns_what_needs_other_signs():
    torch.manual_seed(0)
    target = torch.randn(1, 32)
    model = nn.Linear(32, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(-0.3 * target)
    rung.store_weights_(model, "pair16", scale_bound=20)  # weights are to grow by ten
    optimizer = SignedMadam(split_parameters(model), lr=0.05, momentum=0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=400)
    for _ in range(400):
        x = torch.randn(64, 32)
        loss = (model(x) - x @ target.t()).square().mean() / target.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    assert float(loss.detach()) < 0.002


def test_a_half_that_stands_for_nothing_is_refused():
    for codes in ([15 << 4], [15]):
        coded = CodedTensor.from_float(torch.ones(1), "pair8", 1.0)
        parts = coded.to_parts() | {"codes": torch.tensor(codes, dtype=torch.uint8)}
        with pytest.raises(
            ValueError, match=r"Each half of a code of pair8 must be under 2.4 - 1; got 15. Take"
        ):
            CodedTensor.from_parts(parts, coded.meta())
