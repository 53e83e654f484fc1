"""What LMD refuses, by text, and that nothing has changed then."""

import copy
import math

import pytest
import torch
from torch import nn

from rung.optim import LMD
from rung.tensor import CodedTensor

from .cases import randn

OPEN = "needs the parameters at their own point; {} is still in place. Leave the block"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lr": -0.1}, "`lr` must be 0 or more and finite; got lr=-0.1"),
        ({"lr": math.nan}, "`lr` must be 0 or more and finite; got lr=nan"),
        ({"betas": 0.9}, "`betas` must be None .* or two numbers"),
        ({"lr": math.inf}, "`lr` must be 0 or more and finite; got lr=inf"),
        ({"lr": 30.0}, "`lr` times the largest update must be at most 20.*exp overflows.*lr=30.0"),
        ({"lr": 8.0, "update": "rms"}, "must be at most 20.*got lr=8.0, updates up to 3"),
        ({"regularization": 1e4}, "must be at most 20.*regularization=10000.0"),
        (
            {"sigma": 4.5},
            r"`sigma` must be from 0 to 4, beyond which exp\(sigma \* eps\) overflows",
        ),
        ({"sigma": math.inf}, "`sigma` must be from 0 to 4.*got sigma=inf"),
        ({"sigma": math.nan}, "`sigma` must be from 0 to 4.*got sigma=nan"),
        ({"sigma": -0.1}, "`sigma` must be from 0 to 4.*got sigma=-0.1"),
        (
            {"betas": (0.5, 1.0)},
            r"`betas` must be None .they follow lr. or two numbers in \[0, 1\)",
        ),
        ({"betas": (0.5,)}, r"`betas` must be None .*got betas=\(0.5,\)"),
        ({"betas": (math.nan, 0.5)}, r"`betas` must be None .*got betas=\(nan, 0.5\)"),
        ({"regularization": -1.0}, "`regularization` must be 0 or more and finite; got .*-1.0"),
        ({"regularization": math.nan}, "`regularization` must be 0 or more and finite; got .*nan"),
        ({"reach": 0.0}, "`reach` must be positive and finite; got reach=0.0"),
        ({"offset": 0.0}, "`offset` must be positive and finite; got offset=0.0"),
        ({"clip": math.nan}, "`clip` must be positive and finite; got clip=nan"),
        ({"m0": 0.0}, "`m0` must be positive and finite; got m0=0.0"),
        ({"m0": math.inf}, "`m0` must be positive and finite; got m0=inf"),
        ({"samples": 0}, "`samples` must be a whole number of 1 or more; got samples=0"),
        ({"samples": 1.5}, "`samples` must be a whole number of 1 or more; got samples=1.5"),
        ({"samples": True}, "`samples` must be a whole number of 1 or more; got samples=True"),
        (
            {"prior": "laplace"},
            "`prior` must be one of 'lognormal', 'exponential', 'gaussian', 'constant'; got",
        ),
        ({"update": "adam"}, "`update` must be one of 'sign', 'rms'; got update='adam'"),
        ({"evaluate": "mode"}, "`evaluate` must be one of 'mean', 'median'; got evaluate='mode'"),
        ({"noise": "none"}, "`noise` must be one of 'same', 'per_rank'; got noise='none'"),
        ({"state": "int8"}, "`state` must be one of 'fp32', 'bf16' or the name of an LNS.*'int8'"),
        (
            {"state": "ladder8"},
            "`state` must be one of .* such as 'lns16' or 'lns8'; got state='lad",
        ),
        ({"state": None}, "`state` must be one of .*got state=None"),
        ({"parts_format": "mxfp5"}, "mxfp5"),
        ({"on_nonfinite": "ignore"}, "`on_nonfinite` must be one of 'skip', 'raise', 'trust'; got"),
        ({"additive_lr": -1.0}, "Invalid learning rate: -1.0"),
    ],
    ids=str,
)
def test_bad_hyper_parameters_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        LMD([nn.Parameter(randn(4, 3))], **options)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (
            torch.full((3, 2), 0.5),
            r"\('fc'\) must vary.*got 0 over 6 weights. Give the scale by `m0`",
        ),
        (torch.zeros(3, 2), "must vary, since its standard deviation sets the prior's scale m0"),
        (torch.tensor([0.7]), "got 0 over 1 weights. Give the scale by `m0`.*split_parameters"),
        (torch.tensor(0.7), "got 0 over 1 weights. Give the scale by `m0`"),
        (torch.tensor([0.7, math.nan]), r"\('fc'\) must be finite; got NaN or infinite weights"),
        (torch.tensor([0.7, math.inf]), r"\('fc'\) must be finite; got NaN or infinite weights"),
    ],
    ids=str,
)
def test_weights_without_a_scale_are_refused_with_the_name_of_the_argument(values, match):
    param = nn.Parameter(values)
    with pytest.raises(ValueError, match=r"parameter 1 of group 0.*" + match):
        LMD([("w", nn.Parameter(randn(3))), ("fc", param)])
    # A given m0 is the way out, of which the text speaks.
    if bool(torch.isfinite(values).all()):
        LMD([param], m0=0.1)
    assert torch.equal(param.detach().isnan(), values.isnan())


def test_parameters_of_the_wrong_kind_are_refused():
    code = nn.Parameter(CodedTensor.from_float(randn(4, 3), "lns16", 3.0))
    with pytest.raises(ValueError, match=r"\('fc'\) is stored in codes.*give state='lns16'"):
        LMD([("fc", code)])
    with pytest.raises(TypeError, match="parameter 0 of group 0 is complex"):
        LMD([nn.Parameter(torch.ones(2, dtype=torch.complex64))])
    weight, other = nn.Parameter(randn(4, 3)), nn.Parameter(randn(3))
    optimizer = LMD([{"params": [weight]}, {"params": [other], "algorithm": "adamw"}])
    with pytest.raises(ValueError, match=r"`param` must be a weight that this LMD trains; got one"):
        optimizer.medians(other)
    with pytest.raises(ValueError, match="`algorithm` must be one of 'lmd', 'adamw'; got"):
        LMD([{"params": [weight], "algorithm": "madam"}])


# -- blocks -------------------------------------------------------------------------------------


def opened(optimizer, block):
    names = {"sampled": "a sample", "evaluated": "the mean"}
    return getattr(optimizer, block)(), OPEN.format(names[block])


@pytest.mark.parametrize("block", ["sampled", "evaluated"])
def test_nothing_else_may_happen_inside_an_open_block(block):
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param], samples=2)
    saved = optimizer.state_dict()
    calls = {
        r"sampled\(\)": lambda: optimizer.sampled().__enter__(),
        r"evaluated\(\)": lambda: optimizer.evaluated("sample").__enter__(),
        r"step\(\)": lambda: optimizer.step(),
        r"load_state_dict\(\)": lambda: optimizer.load_state_dict(saved),
    }
    opening, match = opened(optimizer, block)
    with opening:
        inside = param.detach().clone()
        for name, call in calls.items():
            with pytest.raises(RuntimeError, match=f"{name} {match}"):
                call()
            assert torch.equal(param.detach(), inside)
            assert optimizer.sampling
    assert not optimizer.sampling


def test_a_closure_must_not_step_and_the_weights_come_back():
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param])
    before = [m.clone() for m in optimizer.medians(param)]
    with pytest.raises(RuntimeError, match=r"step\(\) needs the parameters at their own point"):
        optimizer.step(optimizer.step)
    for left, right in zip(before, optimizer.medians(param), strict=True):
        assert torch.equal(left, right)
    assert not optimizer.sampling


def test_unknown_points_and_negative_draws_are_refused():
    optimizer = LMD([nn.Parameter(randn(4, 3))])
    match = "`point` must be one of 'mean', 'median', 'sample'; got point='mode'"
    with pytest.raises(ValueError, match=match), optimizer.evaluated("mode"):
        pass
    match = "`draw` must be 0 or more; got draw=-1"
    with pytest.raises(ValueError, match=match), optimizer.evaluated("sample", draw=-1):
        pass
    assert not optimizer.sampling


@pytest.mark.parametrize("samples", [1, 3])
def test_more_blocks_than_samples_and_fewer_are_refused(samples):
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param], samples=samples)
    for taken in range(samples):
        param.grad = torch.ones(4, 3)
        with pytest.raises(RuntimeError, match=f"at samples={samples} draws.*got them at {taken}"):
            optimizer.step()
        # A refused step has forgotten what was drawn for it.
        for _ in range(taken + 1):
            with optimizer.sampled():
                param.grad = torch.ones(4, 3)
    match = f"A step takes samples={samples} draws, and so many were taken.*Call step"
    with pytest.raises(RuntimeError, match=match), optimizer.sampled():
        pass
    optimizer.step()


def test_a_step_refused_for_want_of_samples_moves_nothing_on_either_side():
    weight, bias = nn.Parameter(randn(4, 3)), nn.Parameter(randn(3))
    optimizer = LMD([{"params": [bias], "algorithm": "adamw"}, {"params": [weight]}])
    weight.grad, bias.grad = torch.ones(4, 3), torch.ones(3)
    before = (weight.detach().clone(), bias.detach().clone())
    with pytest.raises(RuntimeError, match="A step with sigma > 0 needs gradients at samples=1"):
        optimizer.step()
    assert torch.equal(before[0], weight.detach())
    assert torch.equal(before[1], bias.detach())


def test_a_step_that_a_gradient_scaler_skips_does_not_block_the_next():
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param])
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = param.detach().clone()
    for overflow in (True, False):
        with optimizer.sampled():
            optimizer.zero_grad()
            loss = (param * 1.0).square().sum() * (math.inf if overflow else 1.0)
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert not torch.equal(param.detach(), before)


# -- states -------------------------------------------------------------------------------------


def damaged(optimizer, name, value):
    state = copy.deepcopy(optimizer.state_dict())
    stored = state["state"][0]
    if isinstance(stored[name], torch.Tensor) and stored[name].ndim:
        stored[name].view(-1)[1] = value
    else:
        stored[name] = torch.full_like(torch.as_tensor(stored[name]), value)
    return state


@pytest.mark.parametrize(
    ("state", "name", "value", "must"),
    [
        *(("fp32", "median_pos", bad, "positive and finite") for bad in (-1.0, 0.0, math.nan)),
        ("fp32", "median_neg", math.inf, "positive and finite"),
        ("fp32", "momentum_pos", math.nan, "finite"),
        ("fp32", "momentum_neg", -math.inf, "finite"),
        ("fp32", "m0", -1.0, "positive and finite"),
        ("bf16", "median_pos", -1.0, "positive and finite"),
        ("bf16", "median_neg", math.nan, "positive and finite"),
        ("lns16", "median_scale", -1.0, "positive and finite"),
        ("lns16", "median_scale", math.nan, "positive and finite"),
    ],
)
def test_damaged_states_are_refused_and_nothing_is_loaded(state, name, value, must):
    params = [nn.Parameter(randn(4, 3, seed=i)) for i in range(2)]
    optimizer = LMD(params, state=state)
    for param in params:
        param.grad = randn(4, 3, seed=5)
    optimizer.step(lambda: 0.0)
    bad = damaged(optimizer, name, value)
    bad["param_groups"][0]["lr"] = 0.5
    twin = LMD([nn.Parameter(p.detach().clone()) for p in params], state=state)
    before = copy.deepcopy(twin.state_dict())
    match = f"`{name}` of parameter 0 must be {must}; got 1 of .* nothing was loaded"
    with pytest.raises(ValueError, match=match):
        twin.load_state_dict(bad)
    after = twin.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for index, stored in before["state"].items():
        for key, kept in stored.items():
            assert torch.equal(torch.as_tensor(kept), torch.as_tensor(after["state"][index][key]))


@pytest.mark.parametrize("code", [-1, 20_000])
def test_codes_outside_the_format_are_refused(code):
    optimizer = LMD([nn.Parameter(randn(4, 3))], state="lns12")
    with pytest.raises(ValueError, match="`median_pos` of parameter 0 must be"):
        optimizer.load_state_dict(damaged(optimizer, "median_pos", code))


def test_states_of_other_optimizers_are_refused():
    weight = nn.Parameter(randn(4, 3))
    other = torch.optim.AdamW([weight]).state_dict()
    with pytest.raises(ValueError, match=r"must be of the same algorithms.*\['lmd'\]; got \[None"):
        LMD([weight]).load_state_dict(other)
