"""Which weights LMD puts in place: the posterior's mean, its median, and its samples."""

import math

import pytest
import torch
from torch import nn

from rung import formats
from rung.optim import LMD

from .cases import randn


def test_the_mean_at_the_start_is_the_given_weight():
    for sigma in (0.0, 0.1, 1.0):
        for dtype, rtol in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
            start = randn(40, 30).to(dtype)
            param = nn.Parameter(start.clone())
            optimizer = LMD([param], sigma=sigma, m0=1.0)
            with optimizer.evaluated("mean"):
                torch.testing.assert_close(param.detach(), start, rtol=rtol, atol=rtol)
            with optimizer.evaluated("median"):
                median = start * math.exp(-(sigma**2) / 2)
                torch.testing.assert_close(param.detach(), median, rtol=rtol, atol=rtol)


def test_samples_have_the_mean_and_the_spread_of_the_posterior():
    sigma, draws = 0.4, 400
    param = nn.Parameter(randn(30, 20))
    optimizer = LMD([param], sigma=sigma)
    pos, neg = (m.double() for m in optimizer.medians(param))
    found = torch.zeros(draws, 30, 20, dtype=torch.float64)
    for draw in range(draws):
        with optimizer.evaluated("sample", draw=draw):
            found[draw] = param.detach()
    mean = (pos - neg) * math.exp(sigma**2 / 2)
    # Var w+- = m^2 e^(sigma^2) (e^(sigma^2) - 1), independent for + and -.
    variance = (pos**2 + neg**2) * math.exp(sigma**2) * math.expm1(sigma**2)
    standard = (found.mean(0) - mean) / (variance / draws).sqrt()
    assert abs(float(standard.mean())) < 4 / math.sqrt(600)
    assert float(standard.square().mean()) == pytest.approx(1, abs=0.25)
    assert float((found.var(0) / variance).mean()) == pytest.approx(1, abs=0.05)


def test_points_are_what_they_are_called():
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param], sigma=0.5, evaluate="median")
    pos, neg = optimizer.medians(param)
    with optimizer.evaluated("mean"):
        torch.testing.assert_close(param.detach(), (pos - neg) * math.exp(0.125))
        assert optimizer.sampling
    torch.testing.assert_close(param.detach(), pos - neg)
    drawn = []
    for draw in (0, 1, 0):
        with optimizer.evaluated("sample", draw=draw):
            drawn.append(param.detach().clone())
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    with optimizer.sampled():
        assert not torch.equal(param.detach(), drawn[0])  # prediction's draws are its own
        param.grad = torch.ones(4, 3)
    optimizer.step()
    with optimizer.evaluated("sample", draw=0):
        assert not torch.equal(param.detach(), drawn[0])


def test_without_noise_all_points_and_samples_are_one():
    param = nn.Parameter(randn(4, 3))
    optimizer = LMD([param], sigma=0.0)
    before = param.detach().clone()
    for block in (optimizer.sampled, lambda: optimizer.evaluated("sample", draw=7)):
        with block():
            torch.testing.assert_close(param.detach(), before, rtol=1e-6, atol=1e-7)


def test_draws_depend_on_seed_name_step_and_element_alone():
    def sample(name="w", seed=0, shape=(6, 4), others=0):
        extra = [(f"o{i}", nn.Parameter(randn(3, 3, seed=i))) for i in range(others)]
        param = nn.Parameter(torch.ones(shape))
        optimizer = LMD([*extra, (name, param)], seed=seed, m0=1.0)
        with optimizer.sampled():
            return param.detach().flatten().clone()

    first = sample()
    assert torch.equal(first, sample(shape=(24,)))
    assert not torch.equal(first, sample(seed=1))
    assert not torch.equal(first, sample(name="v"))


def test_parts_in_a_format_are_rounded_apart():
    param = nn.Parameter(randn(4, 32))
    optimizer = LMD([param], sigma=0.0, parts_format="mxfp4")
    pos, neg = optimizer.medians(param)
    fmt = formats.get("mxfp4")
    with optimizer.sampled():
        assert torch.equal(param.detach(), fmt.quantize(pos) - fmt.quantize(neg))
        param.grad = randn(4, 32, seed=1)
    optimizer.step()
    pos, neg = optimizer.medians(param)
    assert torch.equal(param.detach(), fmt.quantize(pos) - fmt.quantize(neg))
