import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from rung.kernels.normal import normal_pair
from rung.optim import LMD
from rung.theory import lognormal_process, stationary_std

SETTINGS = [(0.1, 1.0, 0.1), (0.4, 0.5, 0.5), (0.5, 3.0, 0.2)]


def starting(count=20_000, value=3.0):
    return torch.full((count,), value, dtype=torch.float64)


def stationary(lr, regularization, sigma, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lognormal_process(starting(), 0.05, lr, regularization, sigma, 150, generator)


def p_value(weights, m0, std):
    """Of the hypothesis that ln w is normal around ln m0."""
    return stats.kstest(np.log(weights.numpy()), stats.norm(math.log(m0), std).cdf).pvalue


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_stationary_distribution_is_log_normal_with_the_stated_width(settings):
    for seed in range(3):
        assert p_value(stationary(*settings, seed=seed), 0.05, stationary_std(*settings)) > 0.01


def test_weights_themselves_are_not_normal_and_a_wrong_width_is_found():
    weights, std = stationary(0.1, 1.0, 0.1), stationary_std(0.1, 1.0, 0.1)
    plain = weights.numpy()
    assert stats.kstest(plain, stats.norm(plain.mean(), plain.std()).cdf).pvalue < 1e-6
    assert p_value(weights, 0.05, 1.1 * std) < 1e-6


def test_additive_noise_and_decay_are_not_log_normal():
    # The same pull and the same relative noise at m0, but both added: an AR(1) process of w.
    m0, keep, sigma = 0.05, 0.9, 0.1
    generator = torch.Generator().manual_seed(0)
    weights = starting()
    for _ in range(300):
        noise = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
        weights = m0 + keep * (weights - m0 + m0 * sigma * noise)
    assert bool((weights > 0).all())
    spread = np.log(weights.numpy())
    assert p_value(weights, math.exp(spread.mean()), spread.std()) < 1e-6


def test_a_step_without_noise_is_the_optimizers_at_zero_gradient():
    weight = nn.Parameter(torch.randn(50, generator=torch.Generator().manual_seed(1)).double())
    optimizer = LMD([weight], lr=0.2, regularization=0.7, sigma=0.0, m0=0.3)
    before = optimizer.medians(weight)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for start, found in zip(before, optimizer.medians(weight), strict=True):
        expected = lognormal_process(start, 0.3, 0.2, 0.7, sigma=0.0, steps=1)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_closed_form_is_the_fixed_point_of_the_variance():
    for lr, regularization, sigma in SETTINGS:
        variance = 0.0
        for _ in range(2000):
            variance = (1 - lr * regularization) ** 2 * (variance + sigma**2)
        assert stationary_std(lr, regularization, sigma) == pytest.approx(math.sqrt(variance))
    assert stationary_std(1e-4, 0.1, 0.1) == pytest.approx(0.1 / math.sqrt(2e-5), rel=1e-4)
    assert stationary_std(0.5, 2.0, 0.1) == 0.0  # one step forgets everything


def test_shape_and_dtype_are_kept_and_no_step_is_no_change():
    for dtype in (torch.float32, torch.float64):
        weights = torch.tensor([[0.5, 2.0]], dtype=dtype)
        same = lognormal_process(weights, 1.0, 0.1, 1.0, 0.1, 0)
        assert (same.dtype, same.shape) == (dtype, (1, 2))
        torch.testing.assert_close(same, weights)


def test_integers_give_the_default_dtype():
    found = lognormal_process(torch.tensor([1, 4]), 1.0, 0.5, 1.0, sigma=0.0, steps=1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0]))
    double = torch.tensor([1.0, 4.0], dtype=torch.float64)
    assert bool((lognormal_process(double, 1e39, 0.5, 1.0, sigma=0.0, steps=1) > 0).all())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"lr": 0.0}, r"`lr` times `regularization` must lie in \(0, 2\).*got 0.0 \* 1.0 = 0"),
        ({"lr": 2.0}, r"must lie in \(0, 2\).*got 2.0 \* 1.0 = 2"),
        ({"regularization": math.nan}, r"must lie in \(0, 2\).*nan"),
        ({"sigma": -0.1}, "`sigma` must be 0 or more and finite; got -0.1"),
        ({"sigma": math.inf}, "`sigma` must be 0 or more and finite; got inf"),
        ({"m0": 0.0}, "`m0` must be positive and finite, .*; got 0.0"),
        ({"m0": 1e39}, r"`m0` must be .* finite, as a number of torch.float32 too; got 1e\+39"),
        ({"m0": 1e-60}, "`m0` must be positive .* of torch.float32 too; got 1e-60"),
        ({"steps": -1}, "`steps` must be 0 or more; got -1"),
        ({"weights": torch.tensor([1.0, 0.0, math.nan])}, "`weights` must be.*got 2 of 3 that"),
    ],
    ids=str,
)
def test_what_has_no_stationary_distribution_is_refused(changes, match):
    good = {"weights": torch.ones(2), "m0": 1.0, "lr": 0.1, "regularization": 1.0, "sigma": 0.1}
    with pytest.raises(ValueError, match=match):
        lognormal_process(**{**good, "steps": 1, **changes})


# -- the gradient of the expected loss by ln m is the mean of h ---------------------------------


def quadratic(weights):
    matrix = torch.randn(12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    flat = weights[0].flatten()
    return 0.5 * flat @ matrix @ matrix.T @ flat - flat.sum()


def tanh_net(weights):
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    hidden = torch.tanh(x @ weights[0])
    return (torch.tanh(hidden @ weights[1]) - 0.3).square().mean()


def expected_loss(loss, log_medians, eps, sigma):
    """Mean over samples of the loss at exp(ln m+ + sigma eps+) - exp(ln m- + sigma eps-)."""
    total = 0.0
    for draws in eps:
        weights = [
            torch.exp(pos + sigma * e_pos) - torch.exp(neg + sigma * e_neg)
            for (pos, neg), (e_pos, e_neg) in zip(log_medians, draws, strict=True)
        ]
        total += float(loss(weights))
    return total / len(eps)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize(
    ("loss", "shapes"),
    [(quadratic, [(4, 3)]), (tanh_net, [(4, 3), (3, 2)])],
    ids=["quadratic", "tanh"],
)
def test_the_gradient_of_the_monte_carlo_loss_by_ln_m_is_the_mean_of_h(loss, shapes, samples):
    sigma, beta2 = 0.3, 0.8
    generator = torch.Generator().manual_seed(7)
    params = [
        nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for shape in shapes
    ]
    optimizer = LMD(params, betas=(0.5, beta2), sigma=sigma, samples=samples)
    log_medians = [tuple(m.log() for m in optimizer.medians(p)) for p in params]
    eps = [
        [
            tuple(
                e.double().view(p.shape)
                for e in normal_pair(optimizer.state[p]["key"], 0, p.numel(), 0, sample)
            )
            for p in params
        ]
        for sample in range(samples)
    ]

    def closure():
        optimizer.zero_grad()
        value = loss(params)
        value.backward()
        return value.detach()

    at_samples = optimizer.step(closure)
    assert float(at_samples) == pytest.approx(
        expected_loss(loss, log_medians, eps, sigma), rel=1e-6
    )
    step = 1e-5
    for param, pair in zip(params, log_medians, strict=True):
        for side, name in enumerate(("momentum_pos", "momentum_neg")):
            h = optimizer.state[param][name].flatten() / (1 - beta2)
            found = torch.empty_like(h)
            for i in range(param.numel()):
                flat = pair[side].view(-1)
                start = float(flat[i])
                values = []
                for move in (step, -step):
                    flat[i] = start + move
                    values.append(expected_loss(loss, log_medians, eps, sigma))
                flat[i] = start
                found[i] = (values[0] - values[1]) / (2 * step)
            torch.testing.assert_close(found, h, rtol=1e-6, atol=1e-7 * float(h.abs().max()))
