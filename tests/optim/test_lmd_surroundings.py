"""LMD beside other code that touches weights, gradients and groups."""

import copy
import math

import pytest
import torch
from torch import nn

from rung.optim import LMD

from .cases import randn


@pytest.mark.parametrize("call", ["step", "sampled", "evaluated"])
def test_weights_changed_from_outside_are_refused_and_kept(call):
    model = nn.Linear(4, 3)
    optimizer = LMD([model.weight])
    loaded = randn(3, 4, seed=7)
    model.load_state_dict({"weight": loaded, "bias": torch.zeros(3)})
    match = r"shape \(3, 4\) was changed from outside.*after load"
    calls = {
        "step": lambda: optimizer.step(lambda: 0.0),
        "sampled": lambda: optimizer.sampled().__enter__(),
        "evaluated": lambda: optimizer.evaluated().__enter__(),
    }
    with pytest.raises(RuntimeError, match=match):
        calls[call]()
    assert torch.equal(model.weight.detach(), loaded)


def test_weights_swapped_there_and_back_or_loaded_with_the_state_are_welcome():
    model = nn.Linear(4, 3)
    optimizer = LMD([model.weight])
    kept = copy.deepcopy(model.state_dict())
    model.load_state_dict({"weight": randn(3, 4), "bias": torch.zeros(3)})
    model.load_state_dict(kept)
    with optimizer.sampled():
        model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()
    twin = nn.Linear(4, 3)
    other = LMD([twin.weight])
    twin.load_state_dict(model.state_dict())
    other.load_state_dict(optimizer.state_dict())
    with other.evaluated("median"):
        pass
    assert torch.equal(twin.weight, model.weight)


@pytest.mark.parametrize(("given", "reach"), [({}, 0.15), ({"betas": (0.9, 0.99)}, 3.0)])
def test_reach_and_regularization_follow_each_groups_own_lr(given, reach):
    groups = [{"params": [nn.Parameter(randn(4, 3))], "lr": lr} for lr in (0.03, 0.06)]
    optimizer = LMD(groups, **given)
    for group, factor in zip(optimizer.param_groups, (1, 2), strict=True):
        assert group["reach"] == pytest.approx(0.15 * factor)
        assert group["regularization"] == pytest.approx(reach * factor / 3)


def test_changed_weights_are_refused_every_time_and_small_changes_too():
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param])
    with torch.no_grad():
        param.add_(1e-3)
    kept = param.detach().clone()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="changed from outside"):
            optimizer.step(lambda: 0.0)
        assert torch.equal(param.detach(), kept)
    param.data = randn(4, 3, seed=9)
    with pytest.raises(RuntimeError, match="changed from outside"):
        optimizer.step(lambda: 0.0)


def test_a_copied_optimizer_notices_changed_weights_too():
    twin = copy.deepcopy(LMD([nn.Parameter(randn(4, 3))]))
    param = twin.param_groups[0]["params"][0]
    with twin.sampled():
        param.grad = torch.ones(4, 3)
    twin.step()
    third = copy.deepcopy(twin)
    third.param_groups[0]["params"][0].data.mul_(2)
    with pytest.raises(RuntimeError, match="changed from outside"):
        third.step(lambda: 0.0)


def test_a_frozen_weight_keeps_its_point_in_a_sample():
    frozen, free = nn.Parameter(randn(4, 3)), nn.Parameter(randn(4, 3, seed=1))
    optimizer = LMD([frozen, free], sigma=0.5)
    frozen.requires_grad_(False)
    point = frozen.detach().clone()
    with optimizer.sampled():
        assert torch.equal(frozen.detach(), point)
        assert not torch.equal(free.detach(), randn(4, 3, seed=1))


@pytest.mark.parametrize("samples", [1, 2])
def test_a_weight_unfrozen_later_gets_gradients_at_the_noise_in_place(samples):
    param = nn.Parameter(randn(4, 3), requires_grad=False)
    optimizer = LMD([param], sigma=0.5, betas=(0.0, 0.0), samples=samples)
    param.requires_grad_(True)
    drawn = []

    def closure():
        drawn.append(param.detach().clone())
        param.grad = torch.ones(4, 3)
        return 0.0

    optimizer.step(closure)
    state = optimizer.state[param]
    momentum = state["momentum_pos"] + state["momentum_neg"]
    torch.testing.assert_close(momentum, sum(drawn) / samples)


def test_a_scaler_that_skips_is_no_trouble_where_gradients_are_cleared_outside():
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param])
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = param.detach().clone()
    for overflow in (True, False):
        optimizer.zero_grad()
        with optimizer.sampled():
            loss = (param * 1.0).square().sum() * (math.inf if overflow else 1.0)
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert not torch.equal(param.detach(), before)


def test_a_closure_without_a_value_is_fine_with_several_samples():
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param], samples=2)

    def closure():
        param.grad = torch.ones(4, 3)

    assert optimizer.step(closure) is None


def test_a_weight_without_gradient_in_the_last_draw_is_stepped_by_the_others():
    first, second = nn.Parameter(randn(4, 3)), nn.Parameter(randn(4, 3, seed=1))
    optimizer = LMD([first, second], samples=2)
    draws = iter([True, False])

    def closure():
        second.grad = torch.ones(4, 3)
        first.grad = torch.ones(4, 3) if next(draws) else None
        return 0.0

    optimizer.step(closure)
    assert int(optimizer.state[first]["step"]) == 1


def test_a_rate_that_a_schedule_spoils_is_refused_before_anything_moves():
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param], sigma=0.0)
    optimizer.param_groups[0]["lr"] = math.nan
    param.grad = torch.ones(4, 3)
    before = param.detach().clone()
    with pytest.raises(ValueError, match="`lr` must be 0 or more and finite; got lr=nan"):
        optimizer.step()
    assert torch.equal(param.detach(), before)


def test_a_group_without_a_rate_is_refused():
    with pytest.raises(ValueError, match="`lr` must be a number in a parameter group; got lr=None"):
        LMD([{"params": [nn.Parameter(randn(4, 3))], "lr": None}])


@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_states_of_another_shape_are_refused_before_they_are_loaded(damage):
    optimizer = LMD([nn.Parameter(randn(4, 3))])
    state = copy.deepcopy(optimizer.state_dict())
    if damage == "missing":
        del state["state"][0]["median_neg"]
    else:
        state["state"][0]["median_neg"] = torch.ones(5, 2)
    got = "got none" if damage == "missing" else r"got shape \(5, 2\)"
    match = r"`median_neg` of parameter 0 must be a tensor of shape \(4, 3\); " + got
    with pytest.raises(ValueError, match=match):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("name", ["fp4_e2m1", "int8", "fp8_e4m3"])
def test_parts_in_a_narrow_float_format_are_scaled_to_its_range(name):
    param = nn.Parameter(0.02 * randn(16, 32))
    before = param.detach().clone()
    LMD([param], sigma=0.0, parts_format=name)
    assert float((param.detach() - before).norm() / before.norm()) < 0.3
