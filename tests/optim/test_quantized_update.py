"""Any torch optimizer under a quantizer: still an optimizer, and its weights are in the format."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from oracles.quantized_update import QuantizedDescent
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from rung.formats import LNS, Ladder, get
from rung.optim import QuantizedUpdate
from rung.tensor import CodedTensor

from .cases import randn

INNER = {
    "sgd": lambda params: SGD(params, lr=0.05, momentum=0.9),
    "sgd-foreach": lambda params: SGD(params, lr=0.05, foreach=True),
    "adam": lambda params: Adam(params, lr=0.01),
    "adam-fused": lambda params: Adam(params, lr=0.01, fused=True),
    "adamw": lambda params: AdamW(params, lr=0.01, weight_decay=0.1),
}


@pytest.fixture(params=INNER)
def inner(request):
    return INNER[request.param]


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3))


def train(net, optimizer, steps, start=0):
    for step in range(start, start + steps):
        optimizer.zero_grad()
        net(randn(8, 6, seed=step)).square().mean().backward()
        optimizer.step()


def values(net):
    return [p.detach().clone() for p in net.parameters()]


def assert_same(a, b):
    assert len(a) == len(b)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("fmt", ["lns16", "lns10", "lns6", "ladder12", LNS(8, 4)])
def test_weights_are_in_the_format_from_the_start_and_after_every_step(inner, fmt, rounding):
    net = network()
    optimizer = QuantizedUpdate(inner(net.parameters()), fmt, rounding=rounding)
    for step in range(5):
        for p in (net[0].weight, net[3].weight):
            used = optimizer.format_of(p)
            assert torch.equal(used.quantize(p.detach()), p)
        train(net, optimizer, 1, start=step)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_the_rest_is_exactly_the_wrapped_optimizers_step(inner, rounding):
    net, twin = network(), network()
    optimizer = QuantizedUpdate(inner(net.parameters()), None, rounding=rounding)
    plain = inner(twin.parameters())
    train(net, optimizer, 5)
    train(twin, plain, 5)
    assert_same(values(net), values(twin))
    # One step from equal weights: biases and gains are equal, weights are the rounded ones.
    optimizer = QuantizedUpdate(inner(net.parameters()), "lns10")
    twin.load_state_dict(net.state_dict())
    plain = inner(twin.parameters())
    train(net, optimizer, 1)
    train(twin, plain, 1)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        fmt = optimizer.format_of(p)
        assert torch.equal(p, q if p.ndim < 2 else fmt.quantize(q.detach()))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4), (0, 3)])
def test_gradient_descent_equals_the_oracle(bits, shape):
    fmt = get(f"lns{bits}")
    start = randn(*shape, seed=1)
    oracle = QuantizedDescent(start.numpy(), 2**-4, bits, fmt.base_factor)
    param = nn.Parameter(start.clone())
    optimizer = QuantizedUpdate(SGD([param], lr=2**-4), f"lns{bits}")
    np.testing.assert_array_equal(param.detach().numpy(), oracle.w)
    for step in range(30):
        param.grad = randn(*shape, seed=step)
        optimizer.step()
        expected = oracle.step(param.grad.numpy())
        np.testing.assert_allclose(param.detach().numpy(), expected, rtol=2e-7, atol=0)
        oracle.w = param.detach().numpy().copy()


def test_names_mean_zero_and_a_power_of_two_scale_and_formats_are_taken_as_they_are():
    net = network()
    optimizer = QuantizedUpdate(SGD(net.parameters(), lr=0.1), "lns8")
    assert optimizer.format == LNS(8, 8, zero=True, power_of_two_scale=True)
    assert QuantizedUpdate(SGD(net.parameters(), lr=0.1), LNS(8, 8)).format == LNS(8, 8)
    assert QuantizedUpdate(SGD(net.parameters(), lr=0.1), "ladder8").format == Ladder(8)


def test_a_moving_maximum_re_rounds_no_other_weight():
    param = nn.Parameter(randn(20, 20))
    optimizer = QuantizedUpdate(SGD([param], lr=1.0), "lns10")
    before = param.detach().clone()
    largest = int(before.abs().argmax())
    for goal in (1.3, 3.0, 0.4):
        param.grad = torch.zeros(20, 20)
        param.grad.view(-1)[largest] = param.detach().view(-1)[largest] - goal
        optimizer.step()
        rest = torch.arange(400) != largest
        assert torch.equal(param.detach().view(-1)[rest], before.view(-1)[rest])


def test_only_weights_are_rounded_unless_told_otherwise():
    net = network()
    before = values(net)
    QuantizedUpdate(SGD(net.parameters(), lr=0.1), "lns6")
    changed = [not torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True)]
    assert changed == [True, False, False, False, True, False]
    net = network()
    QuantizedUpdate(SGD(net.parameters(), lr=0.1), "lns6", all_parameters=True)
    changed = [not torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True)]
    assert changed == [True, True, False, False, True, True]  # ones and zeros are in the format


def test_formats_of_single_parameters():
    net = network()
    before = values(net)
    formats = {net[0].weight: None, net[3].weight: "lns6", net[3].bias: LNS(5, 2, zero=True)}
    optimizer = QuantizedUpdate(Adam(net.parameters(), lr=0.01), "lns16", formats=formats)
    assert optimizer.format_of(net[0].weight) is None
    assert optimizer.format_of(net[3].bias) == LNS(5, 2, zero=True)
    assert torch.equal(net[0].weight, before[0])
    train(net, optimizer, 3)
    assert len(net[3].weight.unique()) <= 2**6
    assert torch.equal(LNS(5, 2, zero=True).quantize(net[3].bias.detach()), net[3].bias)


def test_axis_gives_every_row_its_own_scale():
    weight = randn(4, 50) * torch.tensor([[1.0], [1e-6], [1e3], [0.0]])
    for fmt in ("lns8", "ladder8"):
        param, bias = nn.Parameter(weight.clone()), nn.Parameter(torch.ones(4))
        optimizer = QuantizedUpdate(SGD([param, bias], lr=1.0), fmt, axis=0, all_parameters=True)
        param.grad, bias.grad = torch.zeros_like(param), torch.ones(4)
        optimizer.step()
        bound = get(fmt).max_relative_error
        error = (param.detach() - weight).abs()
        inside = weight.abs() > weight.abs().amax(1, keepdim=True) * get(fmt).smallest
        assert bool((error <= 1.0001 * bound * weight.abs())[inside].all())
        assert not param.detach()[3].any()
        assert bias.tolist() == [0.0] * 4


@pytest.mark.parametrize("fmt", ["lns10", "ladder8"])
def test_all_zero_weights_stay_zero_until_they_are_moved(fmt):
    param = nn.Parameter(torch.zeros(3, 4))
    optimizer = QuantizedUpdate(SGD([param], lr=1.0), fmt)
    assert not param.detach().any()
    param.grad = torch.ones(3, 4)
    optimizer.step()
    assert param.detach().unique().tolist() == [-1.0]


@pytest.mark.parametrize("fmt", ["lns10", "ladder8"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_weights_never_raise_and_stay_non_finite(fmt, bad):
    params = [nn.Parameter(randn(3, 4, seed=i)) for i in range(2)]
    optimizer = QuantizedUpdate(SGD(params, lr=1.0), fmt)
    before = params[1].detach().clone()
    params[0].grad, params[1].grad = torch.zeros(3, 4), torch.zeros(3, 4)
    params[0].grad[1, 2] = bad
    optimizer.step()
    assert not math.isfinite(float(params[0].detach()[1, 2]))
    assert torch.equal(params[1], before)


def test_parameters_without_a_gradient_are_left_alone():
    frozen = nn.Parameter(randn(3, 4), requires_grad=False)
    idle, moved = nn.Parameter(randn(3, 4)), nn.Parameter(randn(3, 4))
    optimizer = QuantizedUpdate(SGD([frozen, idle, moved], lr=0.1), "lns6")
    assert torch.equal(frozen, randn(3, 4))
    with torch.no_grad():
        idle.copy_(randn(3, 4))
    moved.grad = randn(3, 4)
    optimizer.step()
    assert torch.equal(idle, randn(3, 4))
    frozen.requires_grad_()
    frozen.grad = torch.zeros(3, 4)
    optimizer.step()
    assert torch.equal(optimizer.format.quantize(frozen.detach()), frozen)


def test_stochastic_rounding_keeps_the_mean_and_depends_on_the_seed_and_the_step():
    def run(seed, steps):
        param = nn.Parameter(torch.full((300, 300), 1.0))
        optimizer = QuantizedUpdate(SGD([param], lr=1.0), "lns6", rounding="stochastic", seed=seed)
        for _ in range(steps):
            with torch.no_grad():
                param.fill_(1.0)
            param.grad = torch.full((300, 300), 0.2)
            param.grad[0, 0] = -1.0  # the scale's largest
            optimizer.step()
        return param.detach()

    first = run(0, 1)
    assert abs(float(first.view(-1)[1:].double().mean()) - 0.8) < 2e-3
    assert len(first.unique()) == 3
    assert torch.equal(first, run(0, 1))
    assert not torch.equal(first, run(0, 2))
    assert not torch.equal(first, run(1, 1))


# -- an optimizer like any other -------------------------------------------------------------


@pytest.mark.parametrize("scheduler", [CosineAnnealingLR, OneCycleLR])
def test_schedulers_take_it(inner, scheduler):
    def lrs(make):
        net = network()
        optimizer = make(inner(net.parameters()))
        arguments = (10,) if scheduler is CosineAnnealingLR else (0.1, 12)
        schedule = scheduler(optimizer, *arguments)
        for step in range(8):
            train(net, optimizer, 1, start=step)
            schedule.step()
            yield optimizer.param_groups[0]["lr"]

    assert list(lrs(lambda o: QuantizedUpdate(o, "lns12"))) == list(lrs(lambda o: o))


def test_it_shares_groups_state_and_defaults_with_the_wrapped_optimizer(inner):
    net = network()
    wrapped = inner(net.parameters())
    optimizer = QuantizedUpdate(wrapped, "lns12")
    assert isinstance(optimizer, Optimizer)
    train(net, optimizer, 2)
    wrapped.load_state_dict(wrapped.state_dict())  # replaces its groups and state
    assert optimizer.param_groups is wrapped.param_groups
    assert optimizer.state is wrapped.state
    assert optimizer.defaults is wrapped.defaults
    assert "QuantizedUpdate" in repr(optimizer)
    assert optimizer.skipped_steps == 0
    optimizer.zero_grad()
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_a_state_dict_makes_the_run_continue_bit_for_bit(inner, rounding):
    net = network()
    optimizer = QuantizedUpdate(inner(net.parameters()), "lns8", rounding=rounding)
    train(net, optimizer, 4)
    file = io.BytesIO()
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    twin = network(seed=5)
    resumed = QuantizedUpdate(inner(twin.parameters()), "lns8", rounding=rounding)
    twin.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    train(net, optimizer, 4, start=4)
    train(twin, resumed, 4, start=4)
    assert_same(values(net), values(twin))
    assert resumed.param_groups[0]["rounded_steps"] == 8


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_keep_every_option_and_continue_alike(inner, copier):
    net = network()
    formats = {net[3].weight: "lns6", net[0].bias: "lns12"}
    optimizer = QuantizedUpdate(
        inner(net.parameters()), "lns8", formats=formats, rounding="stochastic", seed=3
    )
    train(net, optimizer, 2)
    twin_net, twin = copier((net, optimizer))
    assert twin.optimizer is not optimizer.optimizer
    assert list(twin.formats)[0] is twin_net[3].weight
    train(net, optimizer, 3, start=2)
    train(twin_net, twin, 3, start=2)
    assert_same(values(net), values(twin_net))


def test_checkpoints_go_from_the_wrapped_optimizer_to_this_and_back(inner):
    net = network()
    plain = inner(net.parameters())
    train(net, plain, 2)
    optimizer = QuantizedUpdate(inner(net.parameters()), "lns8", rounding="stochastic")
    optimizer.load_state_dict(plain.state_dict())
    train(net, optimizer, 2)
    assert optimizer.param_groups[0]["rounded_steps"] == 2
    plain.load_state_dict(optimizer.state_dict())
    train(net, plain, 2)


def test_hooks_fire_once_with_this_optimizer():
    net = network()
    optimizer = QuantizedUpdate(SGD(net.parameters(), lr=0.1), "lns8")
    seen = []

    def hook(name):
        return lambda given, *_: seen.append((name, given is optimizer))

    optimizer.register_step_pre_hook(hook("before step"))
    optimizer.register_step_post_hook(hook("after step"))
    optimizer.register_state_dict_pre_hook(hook("before state"))
    optimizer.register_state_dict_post_hook(hook("after state"))
    optimizer.register_load_state_dict_pre_hook(hook("before load"))
    optimizer.register_load_state_dict_post_hook(hook("after load"))
    train(net, optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    places = ("before step", "after step", "before state", "after state", "before load")
    assert seen == [(name, True) for name in (*places, "after load")]


def test_a_closure_is_handed_on_and_its_loss_comes_back():
    net = network()
    optimizer = QuantizedUpdate(torch.optim.LBFGS(net.parameters(), max_iter=3), "lns16")

    def closure():
        optimizer.zero_grad()
        loss = net(randn(8, 6)).square().mean()
        loss.backward()
        return loss

    before = float(closure().detach())
    assert float(optimizer.step(closure).detach()) == before
    assert float(closure().detach()) < before
    fmt = optimizer.format
    assert torch.equal(fmt.quantize(net[0].weight.detach()), net[0].weight)


def test_it_learns_with_the_cpu_gradient_scaler(inner):
    net = network()
    optimizer = QuantizedUpdate(inner(net.parameters()), "lns16")
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = values(net)
    for factor, moves in ((float("inf"), False), (1.0, True)):
        optimizer.zero_grad()
        scaler.scale(net(randn(8, 6)).square().mean() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(net[0].weight, before[0]) != moves


def test_groups_added_later_are_rounded_too():
    net = network()
    optimizer = QuantizedUpdate(SGD(net[0].parameters(), lr=0.1), "lns6")
    optimizer.add_param_group({"params": net[3].parameters(), "lr": 0.2})
    assert torch.equal(optimizer.format.quantize(net[3].weight.detach()), net[3].weight)
    train(net, optimizer, 2)
    assert [group["rounded_steps"] for group in optimizer.param_groups] == [2, 2]
    coded = nn.Parameter(CodedTensor.from_float(randn(4, 3), "ladder8", 3.0))
    with pytest.raises(ValueError, match="parameter 0 of group 2 must be in floating point to be"):
        optimizer.add_param_group({"params": [coded]})
    assert len(optimizer.param_groups) == 2


def test_bad_arguments_are_refused():
    net = network()
    sgd = SGD(net.parameters(), lr=0.1)
    before = values(net)
    with pytest.raises(TypeError, match="`optimizer` must be a torch optimizer; got generator"):
        QuantizedUpdate(net.parameters(), "lns16")
    with pytest.raises(TypeError, match="must not be a QuantizedUpdate already: .*by `formats`"):
        QuantizedUpdate(QuantizedUpdate(sgd, None), "lns16")
    with pytest.raises(ValueError, match="Unknown format 'int7'"):
        QuantizedUpdate(sgd, "int7")
    with pytest.raises(ValueError, match="Unknown format 'int7'"):
        QuantizedUpdate(sgd, None, formats={net[0].weight: "int7"})
    with pytest.raises(ValueError, match="`rounding` must be one of 'nearest', 'stochastic'; got"):
        QuantizedUpdate(sgd, "lns16", rounding="down")
    match = "keys of `formats` must be parameters of the optimizer; got "
    with pytest.raises(ValueError, match=match + r"a tensor of shape \(2, 2\)"):
        QuantizedUpdate(sgd, "lns16", formats={torch.ones(2, 2): "lns8"})
    with pytest.raises(ValueError, match=match + "'0.weight'. Take them from the model"):
        QuantizedUpdate(sgd, "lns16", formats={"0.weight": "lns8"})
    coded = nn.Parameter(CodedTensor.from_float(randn(4, 3), "ladder8", 3.0))
    with pytest.raises(ValueError, match=r"\('fc'\) must be in floating point to be rounded after"):
        QuantizedUpdate(SGD([*net.named_parameters(), ("fc", coded)], lr=0.1), "lns16")
    assert_same(values(net), before)


def test_an_axis_that_a_parameter_lacks_is_refused_before_any_is_rounded():
    wide, flat = torch.nn.Parameter(torch.randn(2, 2, 2)), torch.nn.Parameter(torch.randn(2, 2))
    before = wide.detach().clone()
    with pytest.raises(ValueError, match=r"from -2 to 1; got axis=2 for shape \(2, 2\)"):
        QuantizedUpdate(torch.optim.SGD([wide, flat], lr=0.1), "lns4", axis=2)
    assert torch.equal(wide, before)
