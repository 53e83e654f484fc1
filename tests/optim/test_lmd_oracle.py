"""LMD against the paper-literal one, and its updates in extremes."""

import functools
import math

import numpy as np
import pytest
import torch
from oracles.lmd_float64 import LMDOracle
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from rung.kernels.normal import normal_pair, normal_pair_oracle
from rung.optim import LMD

from .cases import randn

PRIORS = ("lognormal", "exponential", "gaussian", "constant")
STEPS = 100
# Every number that counts, so that a change of defaults is none of these tests' business.
OPTIONS = {
    "lr": 0.05, "sigma": 0.1, "regularization": 0.1, "reach": 0.4, "offset": 0.1, "clip": 3.0,
}  # fmt: skip


def slopes(shape, samples, dtype):
    """Gradients of every step and sample: typical sizes differ by weight, some are exactly 0."""
    generator = torch.Generator().manual_seed(11)
    typical = torch.exp(2 * torch.randn(shape, generator=generator))
    for _ in range(STEPS):
        drawn = [typical * (0.3 + torch.randn(shape, generator=generator)) for _ in range(samples)]
        zeros = [torch.rand(shape, generator=generator) < 0.1 for _ in range(samples)]
        yield [torch.where(z, 0.0, g).to(dtype) for g, z in zip(drawn, zeros, strict=True)]


@functools.cache
def once(noise):
    """The same draws, which most tests share, made once."""
    drawn = functools.cache(lambda key, *place: noise(torch.tensor(key), *place))
    return lambda key, *place: drawn(int(key), *place)


def pair(dtype, samples, shape=(4, 3), **options):
    """An optimizer on one weight and its oracle."""
    options = {**OPTIONS, **options}
    param = nn.Parameter(randn(*shape, seed=1).to(dtype))
    optimizer = LMD([("w", param)], samples=samples, **options)
    names = {"regularization": "lam", "offset": "kappa"}
    if options["reach"] is None:
        # Betas start at (0.5, 0.8), whatever the lr, and follow it from there.
        options = {**options, "reach": options["lr"] / 0.2}
    kept = {names.get(k, k): v for k, v in options.items() if k not in ("lr", "seed")}
    # The draws are float32 numbers whatever the parameter's dtype.
    kept["noise"] = once(normal_pair if dtype == torch.float64 else normal_pair_oracle)
    key = int(optimizer.state[param]["key"])
    return param, optimizer, LMDOracle(param.detach().numpy(), key, samples=samples, **kept)


def assert_equal(optimizer, param, oracle, rtol):
    for found, expected in zip(optimizer.medians(param), oracle.medians(), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=rtol)
    # A weight is a difference: its error is relative to the parts.
    size = float(np.abs(oracle.medians()).max())
    np.testing.assert_allclose(param.detach().numpy(), oracle.mean(), rtol=rtol, atol=rtol * size)


def linear(param, grads):
    """A closure whose losses have the given gradients."""
    queue = list(grads)

    def closure():
        param.grad = None
        loss = (param * queue.pop(0)).sum()
        loss.backward()
        return loss.detach()

    return closure


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("betas", [None, (0.5, 0.8)])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("update", ["sign", "rms"])
@pytest.mark.parametrize("prior", PRIORS)
def test_100_steps_equal_the_float64_oracle_under_a_schedule(
    prior, update, samples, betas, dtype, rtol
):
    options = {"prior": prior, "update": update, "betas": betas, "lr": 0.05, "sigma": 0.2}
    param, optimizer, oracle = pair(dtype, samples, **options)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / (STEPS + 1))
    for grads in slopes(param.shape, samples, dtype):
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step(linear(param, grads))
        oracle.step(lambda w, number, grads=grads: grads[number].numpy(), lr)
        schedule.step()
    assert_equal(optimizer, param, oracle, rtol)


@pytest.mark.parametrize(
    "options",
    [
        {"entropy": True, "prior": "gaussian"},
        {"entropy": True, "prior": "exponential"},
        {"m0": 0.3, "offset": 0.5, "seed": 9},
        {"regularization": 0.0, "reach": 0.2},
        {"update": "rms", "clip": 0.7},
        {"sigma": 0.0},
        {"weight_scaled": False},
        {"reach": None},
        {"shape": (2, 3, 2, 2)},
        {"shape": (7,), "lr": 0.5},
    ],
    ids=str,
)
def test_every_option_equals_the_oracle(options):
    lr = options.get("lr", OPTIONS["lr"])
    param, optimizer, oracle = pair(torch.float32, 2, **options)
    for grads in slopes(param.shape, 2, torch.float32):
        optimizer.step(linear(param, grads))
        oracle.step(lambda w, number, grads=grads: grads[number].numpy(), lr)
    assert_equal(optimizer, param, oracle, 1e-5)


@pytest.mark.parametrize("update", ["sign", "rms"])
def test_a_loss_of_the_weights_is_followed_as_the_oracle_follows_it(update):
    param, optimizer, oracle = pair(torch.float64, 2, update=update, lr=0.05, sigma=0.2)
    goal = randn(4, 3, seed=2).double()

    def closure():
        param.grad = None
        loss = torch.cosh(param - goal).sum()
        loss.backward()
        return loss.detach()

    for _ in range(STEPS):
        optimizer.step(closure)
        oracle.step(lambda w, _: np.sinh(w - goal.numpy()), 0.05)
    assert_equal(optimizer, param, oracle, 1e-12)


# Fused steps take weights in chunks: a size over one, and odd.
@pytest.mark.parametrize("update", ["sign", "rms"])
def test_large_odd_tensors_equal_the_oracle(update):
    param, optimizer, oracle = pair(
        torch.float32, 1, shape=(4999,), update=update, lr=0.05, sigma=0.2
    )
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        grad = torch.randn(4999, generator=generator)
        optimizer.step(linear(param, [grad]))
        oracle.step(lambda w, _, grad=grad: grad.numpy(), 0.05)
    assert_equal(optimizer, param, oracle, 1e-5)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("update", ["sign", "rms"])
@pytest.mark.parametrize("state", ["fp32", "bf16", "lns16", "lns8"])
def test_parts_stay_positive_under_the_largest_gradients(prior, update, state):
    param = nn.Parameter(randn(6, 5))
    optimizer = LMD(
        [param],
        lr=5.0,
        prior=prior,
        update=update,
        state=state,
        regularization=0.1,
        sigma=0.5,
        clip=3.0,
    )
    for step in range(40):
        grad = torch.full((6, 5), 2.0**62)
        grad[0] = -(2.0**62)
        grad[1] = 2.0**-140
        grad[2] = (-1.0) ** step
        optimizer.step(linear(param, [grad]))
        for median in optimizer.medians(param):
            assert bool(((median > 0) & torch.isfinite(median)).all())
    assert bool(torch.isfinite(param).all())
    assert optimizer.skipped_steps == 0


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan, 2.0**64])
@pytest.mark.parametrize("samples", [1, 2])
def test_gradients_that_are_not_finite_skip_the_step_and_change_nothing(bad, samples):
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param], samples=samples)
    grads = [torch.ones(4, 3) for _ in range(samples)]
    optimizer.step(linear(param, grads))
    state = {name: torch.as_tensor(value).clone() for name, value in optimizer.state[param].items()}
    before = param.detach().clone()
    grads[0][1, 2] = bad
    with pytest.warns(UserWarning, match="this step was skipped"):
        optimizer.step(linear(param, grads))
    assert optimizer.skipped_steps == 1
    assert torch.equal(param.detach(), before)
    for name, value in state.items():
        assert torch.equal(torch.as_tensor(optimizer.state[param][name]), value), name
    optimizer.step(linear(param, [torch.ones(4, 3)] * samples))
    assert not torch.equal(param.detach(), before)
