"""Optimizers of other libraries: what they store, what they round, what is refused."""

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from rung.train import get_recipe, with_settings
from rung.train.config import BF16_WEIGHTS, RIVALS
from rung.train.optimizers import build_optimizer, store_weights
from rung.train.rivals import build_rival, round_bfloat16


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.LayerNorm(128), nn.Linear(128, 64))


def config(name, *settings):
    return with_settings(get_recipe("digits-mlp").configure(name), settings)


@pytest.mark.parametrize(
    ("name", "weights", "states"),
    [
        ("adamw-bf16", torch.bfloat16, {torch.bfloat16}),
        ("adamw-8bit", torch.float32, {torch.uint8}),
        ("adamw-8bit-bf16", torch.bfloat16, {torch.uint8}),
    ],
)
def test_what_is_stored(name, weights, states):
    model = network()
    line = store_weights(config(name), model)
    assert (line is None) == (weights == torch.float32)
    optimizer = build_optimizer(config(name), model)
    with torch.autocast("cpu", torch.bfloat16, enabled=name in BF16_WEIGHTS):
        model(torch.randn(8, 64)).float().square().mean().backward()
    optimizer.step()
    assert [p.dtype for p in model.parameters() if p.ndim == 2] == [weights] * 2
    assert {p.dtype for p in model.parameters() if p.ndim == 1} == {torch.float32}
    state = optimizer.state[model[0].weight]
    whole = {v.dtype for v in state.values() if isinstance(v, torch.Tensor) and v.ndim == 2}
    assert whole == states


@pytest.mark.parametrize("name", sorted(BF16_WEIGHTS))
def test_updates_far_below_a_spacing_are_kept_in_the_mean(name):
    # A step of 1e-4 off 1 is a thirtieth of bfloat16's spacing below it.
    weight = nn.Parameter(torch.ones(200, 64, dtype=torch.bfloat16))
    optimizer = build_rival(name, [weight], lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0)
    torch.manual_seed(0)
    for _ in range(20):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        assert weight.grad is not None
        assert weight.grad.dtype == torch.bfloat16
    assert float(weight.detach().double().mean()) == pytest.approx(1 - 20e-4, abs=2e-4)


def test_rounding_keeps_the_mean_and_the_numbers_of_bfloat16():
    torch.manual_seed(0)
    for value in (1.001, -0.3, 1e-20):
        rounded = round_bfloat16(torch.full((50_000,), value)).double()
        assert len(rounded.unique()) == 2
        assert float(rounded.mean()) == pytest.approx(value, rel=2e-4)
    whole = torch.randn(100).bfloat16()
    assert torch.equal(round_bfloat16(whole.float()), whole)


def test_what_is_refused(monkeypatch):
    for name in sorted(RIVALS):
        with pytest.raises(ValueError, match=rf"`update_format` must be none for .*{name}.*lns10"):
            config(name, "update_format=lns10")
    with pytest.raises(ValueError, match="`format` must be none for optimizer 'adamw-bf16'.*lns8"):
        replace(config("adamw-bf16"), format="lns8")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ImportError, match=r"bitsandbytes's, which .* pip install 'rung\[bench\]'"):
        build_rival("adamw-8bit", network().parameters(), lr=1e-3)
