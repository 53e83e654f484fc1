"""Blocks and closures of LMD: what a step makes of samples, and that they leave no trace."""

import copy
import pickle

import pytest
import torch
from torch import nn

from rung.optim import LMD, split_parameters

from .cases import randn

STATES = ["fp32", "bf16", "lns16", "lns8"]
INPUTS, GOALS = randn(16, 5, seed=3), randn(16, 2, seed=4)


def make(samples=1, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    options = {"lr": 0.05, "sigma": 0.2, "samples": samples, **options}
    return model, LMD(split_parameters(model), **options)


def loss_of(model, optimizer):
    optimizer.zero_grad()
    loss = (model(INPUTS) - GOALS).square().mean()
    loss.backward()
    return loss.detach()


def train(model, optimizer, steps=1):
    return [optimizer.step(lambda: loss_of(model, optimizer)) for _ in range(steps)]


def train_in_blocks(model, optimizer, steps=1, samples=1):
    losses = []
    for _ in range(steps):
        drawn = []
        for _ in range(samples):
            with optimizer.sampled():
                drawn.append(loss_of(model, optimizer))
        optimizer.step()
        losses.append(sum(drawn[1:], drawn[0]) / samples)
    return losses


def snapshot(model, optimizer):
    state = [
        (name, torch.as_tensor(value).clone())
        for param in model.parameters()
        for name, value in optimizer.state[param].items()
    ]
    return [p.detach().clone() for p in model.parameters()], state


def assert_same(left, right):
    for a, b in zip(left[0], right[0], strict=True):
        assert torch.equal(a, b)
    for (name, a), (_, b) in zip(left[1], right[1], strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b), name


# -- the closure and the block ------------------------------------------------------------------


@pytest.mark.parametrize("update", ["sign", "rms"])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("samples", [1, 3])
def test_the_closure_and_the_block_give_the_same_bits(samples, state, update):
    runs = []
    for training in (train, lambda *args: train_in_blocks(*args, samples=samples)):
        model, optimizer = make(samples, state=state, update=update)
        losses = training(model, optimizer, 5)
        runs.append((snapshot(model, optimizer), losses))
    assert_same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]


def test_the_returned_loss_is_the_mean_over_samples():
    model, optimizer = make(3)
    seen = []

    def closure():
        seen.append(loss_of(model, optimizer))
        return seen[-1]

    found = optimizer.step(closure)
    assert len(set(map(float, seen))) == 3
    assert float(found) == pytest.approx(sum(map(float, seen)) / 3)


def test_every_sample_of_a_step_and_every_step_draws_anew():
    model, optimizer = make(2)
    weights = []
    for _ in range(2):
        for _ in range(2):
            with optimizer.sampled():
                weights.append(model[0].weight.detach().clone())
                loss_of(model, optimizer)
        optimizer.step()
    deviations = [(w - weights[0]).abs().mean() for w in weights[1:]]
    assert min(deviations) > 0.01


def test_more_samples_average_what_one_sample_gets():
    # With betas (0, 0) the momentum is h of the step alone.
    param = nn.Parameter(randn(4, 3))
    grad = randn(4, 3, seed=1)
    optimizer = LMD([param], betas=(0.0, 0.0), sigma=0.5, samples=3, lr=1e-4)
    pos, _ = optimizer.medians(param)
    drawn = []

    def closure():
        # w+ = w + w- of each draw can't be seen; but the mean of w g can.
        drawn.append(param.detach().clone())
        param.grad = grad.clone()
        return torch.zeros(())

    optimizer.step(closure)
    state = optimizer.state[param]
    found = state["momentum_pos"] + state["momentum_neg"]
    torch.testing.assert_close(found, sum(drawn) / 3 * grad, rtol=1e-5, atol=1e-6)


def test_gradients_of_an_earlier_sample_are_not_counted_twice():
    # No zero_grad in between: the second block clears what the first left.
    runs = []
    for clear in (True, False):
        model, optimizer = make(3)
        for _ in range(3):
            with optimizer.sampled():
                if clear:
                    optimizer.zero_grad()
                (model(INPUTS) - GOALS).square().mean().backward()
        optimizer.step()
        runs.append(snapshot(model, optimizer))
    assert_same(*runs)


def test_biases_get_the_mean_gradient_over_samples():
    model, optimizer = make(3, additive_lr=1e-4)
    gradients = []

    def closure():
        loss = loss_of(model, optimizer)
        gradients.append(model[2].bias.grad.clone())
        return loss

    optimizer.step(closure)
    first_moment = optimizer.state[model[2].bias]["exp_avg"] / (1 - 0.9)
    torch.testing.assert_close(first_moment, sum(gradients) / 3)


def test_groups_that_take_fewer_samples_still_average():
    params = [nn.Parameter(randn(4, 3, seed=i)) for i in range(2)]
    groups = [{"params": [params[0]]}, {"params": [params[1]], "samples": 2}]
    optimizer = LMD(groups, sigma=0.0, betas=(0.0, 0.0))
    expected = [optimizer.medians(p)[0] for p in params]

    def closure():
        optimizer.zero_grad()
        loss = params[0].sum() + params[1].sum()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    for param, h in zip(params, expected, strict=True):
        torch.testing.assert_close(optimizer.state[param]["momentum_pos"], h)


# -- nothing stays behind -----------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("trained", [0, 2])
def test_an_exception_leaves_everything_as_it_was(trained, state, error):
    model, optimizer = make(2, state=state)
    train(model, optimizer, trained)
    before = snapshot(model, optimizer)
    calls = []

    def closure():
        calls.append(loss_of(model, optimizer))
        if len(calls) == 2:
            raise error("stopped inside")
        return calls[0]

    with pytest.raises(error, match="stopped inside"):
        optimizer.step(closure)
    assert_same(before, snapshot(model, optimizer))
    for block in (optimizer.sampled, optimizer.evaluated, lambda: optimizer.evaluated("sample")):
        with pytest.raises(error, match="stopped inside"), block():
            raise error("stopped inside")
        assert not optimizer.sampling
        assert_same(before, snapshot(model, optimizer))
    # And training goes on as if nothing had been.
    twin_model, twin = make(2, state=state)
    train(twin_model, twin, trained)
    assert train(model, optimizer, 2) == train(twin_model, twin, 2)
    assert_same(snapshot(model, optimizer), snapshot(twin_model, twin))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("evaluate", ["mean", "median"])
def test_blocks_restore_every_bit_of_every_dtype_and_layout(dtype, evaluate):
    values = [
        randn(6, 5),
        randn(5, 6).t(),
        randn(3, 2, 2, 2),
        randn(3, 2, 4, 4).to(memory_format=torch.channels_last),
    ]
    params = [nn.Parameter(v.to(dtype)) for v in values]
    optimizer = LMD(params, evaluate=evaluate)
    for _ in range(2):
        before = [p.detach().clone() for p in params]
        for block in (
            optimizer.sampled,
            lambda: optimizer.evaluated("mean"),
            lambda: optimizer.evaluated("median"),
            lambda: optimizer.evaluated("sample", draw=3),
        ):
            with block():
                optimizer.zero_grad()
                sum((p * p).sum() for p in params).backward()
            for param, bits in zip(params, before, strict=True):
                assert torch.equal(param.detach(), bits)
                assert param.stride() == bits.stride()
            if block == optimizer.sampled:
                optimizer.step()
                before = [p.detach().clone() for p in params]


def test_an_unfinished_step_of_one_optimizer_is_no_business_of_another():
    param = nn.Parameter(randn(4, 3))
    abandoned = LMD([param], samples=2, betas=(0.0, 0.0), sigma=0.0)
    with abandoned.sampled():
        param.grad = torch.full((4, 3), 100.0)
    optimizer = LMD([param], samples=2, betas=(0.0, 0.0), sigma=0.0)
    h, _ = optimizer.medians(param)
    for _ in range(2):
        with optimizer.sampled():
            param.grad = torch.ones(4, 3)
    optimizer.step()
    torch.testing.assert_close(optimizer.state[param]["momentum_pos"], h)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_start_with_no_samples_taken(copier):
    params = [nn.Parameter(randn(4, 3))]
    optimizer = LMD(params, samples=2)
    with optimizer.sampled():
        params[0].grad = torch.ones(4, 3)
    twin = copier(optimizer)
    copied = twin.param_groups[0]["params"][0]
    for _ in range(2):
        with twin.sampled():
            copied.grad = torch.ones(4, 3)
    twin.step()
