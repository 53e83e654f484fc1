"""Theorem 1 and Lemma 1 on small networks, with exact gradients of the full loss."""

import math

import pytest
import torch
from torch import Tensor

from rung.theory import angle, descent_bound, gradient_breakdown, trust_bound


def make_network(depth: int, seed: int) -> tuple[list[Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    widths = [6] + [16] * (depth - 1) + [3]
    layers = [
        torch.randn(n_out, n_in, generator=generator, dtype=torch.float64) / math.sqrt(n_in)
        for n_in, n_out in zip(widths, widths[1:], strict=False)
    ]
    inputs = torch.randn(64, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 3, (64,), generator=generator)
    return layers, inputs, targets


def loss_and_gradients(layers: list[Tensor], inputs: Tensor, targets: Tensor):
    leaves = [layer.detach().requires_grad_() for layer in layers]
    hidden = inputs
    for index, layer in enumerate(leaves):
        hidden = hidden @ layer.t()
        if index + 1 < len(leaves):
            hidden = torch.tanh(hidden)
    loss = torch.nn.functional.cross_entropy(hidden, targets)
    return float(loss.detach()), torch.autograd.grad(loss, leaves)


def multiply(layers: list[Tensor], grads: tuple[Tensor, ...], lr: float) -> list[Tensor]:
    """Equation 3."""
    pairs = zip(layers, grads, strict=True)
    return [w * (1 - lr * torch.sign(w) * torch.sign(g)) for w, g in pairs]


@pytest.mark.parametrize("depth", [2, 4, 8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_first_step_of_equation_3_below_the_bound_decreases_the_loss(depth, seed):
    layers, inputs, targets = make_network(depth, seed)
    loss, grads = loss_and_gradients(layers, inputs, targets)
    bound = descent_bound([angle(w, g) for w, g in zip(layers, grads, strict=True)])
    for fraction in (0.01, 0.5, 0.99):
        after, _ = loss_and_gradients(multiply(layers, grads, fraction * bound), inputs, targets)
        assert after < loss


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_twenty_steps_at_half_the_bound_learn(depth):
    # Single steps may rise: deep relative trust is an assumption, and near a minimum of the loss
    # the gradient breaks down faster than it allows (by up to 16 times on these networks).
    layers, inputs, targets = make_network(depth, seed=0)
    first, grads = loss_and_gradients(layers, inputs, targets)
    for _ in range(20):
        bound = descent_bound([angle(w, g) for w, g in zip(layers, grads, strict=True)])
        layers = multiply(layers, grads, lr=0.5 * bound)
        last, grads = loss_and_gradients(layers, inputs, targets)
    assert last < 0.9 * first


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_descent_is_certain_while_the_measured_breakdown_is_below_the_cosine(depth):
    # Equation 2 needs no assumption, and Lemma 1 bounds the fall of the loss.
    layers, inputs, targets = make_network(depth, seed=1)
    loss, grads = loss_and_gradients(layers, inputs, targets)
    lr = 0.05 * descent_bound([angle(w, g) for w, g in zip(layers, grads, strict=True)])
    end = multiply(layers, grads, lr)
    breakdowns = [0.0] * depth
    for t in torch.linspace(0, 1, 11, dtype=torch.float64):
        path = [w + t * (new - w) for w, new in zip(layers, end, strict=True)]
        _, moved = loss_and_gradients(path, inputs, targets)
        for k, (g, h) in enumerate(zip(grads, moved, strict=True)):
            breakdowns[k] = max(breakdowns[k], gradient_breakdown(g, h))
    cosines = [math.cos(angle(w, g)) for w, g in zip(layers, grads, strict=True)]
    assert all(b < c for b, c in zip(breakdowns, cosines, strict=True))
    after, _ = loss_and_gradients(end, inputs, targets)
    steps = [
        float(g.norm() * (new - w).norm()) for w, g, new in zip(layers, grads, end, strict=True)
    ]
    terms = zip(steps, cosines, breakdowns, strict=True)
    assert after - loss <= -sum(size * (c - b) for size, c, b in terms) < 0


@pytest.mark.parametrize("depth", [2, 4, 8])
def test_trust_bound_of_equation_3_depends_on_lr_and_depth_only(depth):
    layers, inputs, targets = make_network(depth, seed=3)
    _, grads = loss_and_gradients(layers, inputs, targets)
    after = multiply(layers, grads, lr=0.02)
    assert trust_bound(layers, after) == pytest.approx(1.02**depth - 1, rel=1e-9)


def test_lr_at_the_bound_spends_exactly_the_least_cosine():
    # At the bound the trust product equals 1 + cos gamma_k (Equation 6) for the worst layer.
    layers, inputs, targets = make_network(4, seed=4)
    _, grads = loss_and_gradients(layers, inputs, targets)
    angles = [angle(w, g) for w, g in zip(layers, grads, strict=True)]
    after = multiply(layers, grads, lr=descent_bound(angles))
    assert trust_bound(layers, after) == pytest.approx(min(map(math.cos, angles)), rel=1e-9)


def test_gamma_is_the_angle_between_the_update_and_the_negative_gradient():
    layers, inputs, targets = make_network(3, seed=5)
    _, grads = loss_and_gradients(layers, inputs, targets)
    for w, g, new in zip(layers, grads, multiply(layers, grads, lr=0.01), strict=True):
        cosine = float(((new - w) * -g).sum() / ((new - w).norm() * g.norm()))
        assert angle(w, g) == pytest.approx(math.acos(cosine), rel=1e-9)


def test_measured_breakdown_shrinks_with_the_step():
    layers, inputs, targets = make_network(4, seed=6)
    _, grads = loss_and_gradients(layers, inputs, targets)
    largest = []
    for lr in (1e-1, 1e-2, 1e-3):
        _, moved = loss_and_gradients(multiply(layers, grads, lr), inputs, targets)
        pairs = zip(grads, moved, strict=True)
        largest.append(max(gradient_breakdown(g, h) for g, h in pairs))
    assert largest[0] > largest[1] > largest[2] > 0
